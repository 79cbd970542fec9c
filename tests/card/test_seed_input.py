import pytest

from manyscale.card import card_text, parse_card
from manyscale.card.seed_input import translate_seed
from manyscale.errors import CardError
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.presets import resolve
from manyscale.schema import Schema, StreamSchema

# Our own words for a file of the seed's names: common part, then one part a model.
INPUT = """
model = {model}
k_event = 50_000
test_ratio = 0.2
attention_mask = False
num_classes = 2
batch_size = 50
epoch = 3
mlp_units = [128, 64]
dropout_rate = 0.2
lr = 0.001
compute_ROC = True
## If you use model 1, please fill this part only ##
sig_file = 'sig.npz'
bkg_file = 'bkg.npz'
num_heads = 5
hidden_dim = 5
num_transformers = 3
n_constit = 50
n_channels = 7
## If you use model 2, please fill this part only ##
sig_file_1 = 'sig_1.npz'
sig_file_2 = 'sig_2.npz'
sig_file_3 = 'sig_3.npz'
bkg_file_1 = 'bkg_1.npz'
bkg_file_2 = 'bkg_2.npz'
bkg_file_3 = 'bkg_3.npz'
num_heads_1 = 5
num_transformers_1 = 3
n_constit_1 = 50
num_heads_2 = 7
num_transformers_2 = 2
n_constit_2 = 40
num_heads_3 = 3
num_transformers_3 = 4
n_constit_3 = 5
num_heads_cross = 2
num_transformers_cross = 1
## If you use model 3, please fill this part only ##
sig_file_1 = 'other_1.npz'
sig_file_2 = 'other_2.npz'
bkg_file_1 = 'back_1.npz'
bkg_file_2 = 'back_2.npz'
num_heads_1 = 4
num_transformers_1 = 1
n_constit_1 = 30
num_heads_2 = 6
num_transformers_2 = 5
n_constit_2 = 8
num_heads_cross = 4
num_transformers_cross = 2
"""


def translated(tmp_path, text):
    path = tmp_path / "input.py"
    path.write_text(text)
    return translate_seed(path)


def builds(card):
    """The card gives a network for streams of its names."""
    names = list(card.data.signal)
    schema = Schema(streams=tuple(StreamSchema(name=n, columns=("f0", "f1")) for n in names))
    return MultiScaleClassifier(
        resolve(card.preset, names, card.streams, card.fusion, card.head), schema
    )


def test_model_1(tmp_path):
    card = translated(tmp_path, INPUT.format(model=1)).card
    assert card.preset == "model-1"
    assert card.data.max_events == 50_000
    assert card.data.split.test == 0.2
    assert card.data.signal == {"constituents": tmp_path / "sig.npz"}
    assert (card.training.batch_size, card.training.epochs, card.training.learning_rate) == (
        50,
        3,
        1e-3,
    )
    assert (card.head.units, card.head.dropout) == ((128, 64), 0.2)
    stream = card.streams["constituents"]
    assert (stream.heads, stream.width, stream.layers, stream.max_tokens) == (5, 25, 3, 50)
    assert card.fusion is None
    builds(card)
    assert parse_card(card_text(card, "again")) == card


def test_model_2_takes_its_own_part_of_names_that_model_3_uses_too(tmp_path):
    card = translated(tmp_path, INPUT.format(model=2)).card
    assert card.data.signal == {
        name: tmp_path / f"sig_{n}.npz" for n, name in enumerate(["jet1", "jet2", "kinematics"], 1)
    }
    assert [s.heads for s in card.streams.values()] == [5, 7, 3]
    assert [s.width for s in card.streams.values()] == [35, 35, 36]  # 36: of 3 and of 2 heads
    assert [s.layers for s in card.streams.values()] == [3, 2, 4]
    assert [s.max_tokens for s in card.streams.values()] == [50, 40, 5]
    assert card.fusion[0].query == "kinematics"
    assert (card.fusion[0].heads, card.fusion[0].layers) == (2, 1)
    builds(card)


def test_model_3(tmp_path):
    card = translated(tmp_path, INPUT.format(model=3)).card
    assert list(card.data.background) == ["jet1", "kinematics"]
    assert card.data.background["kinematics"] == tmp_path / "back_2.npz"
    assert [(s.heads, s.width, s.layers) for s in card.streams.values()] == [(4, 32, 1), (6, 36, 5)]
    assert (card.fusion[0].heads, card.fusion[0].layers) == (4, 2)
    builds(card)


def test_nothing_is_executed(tmp_path):
    mark = tmp_path / "executed"
    text = (
        INPUT.format(model=1)
        + f"import pathlib\nlr = pathlib.Path({str(mark)!r}).write_text('x')\n"
    )
    translation = translated(tmp_path, text)
    assert not mark.exists()
    assert translation.card.training.learning_rate == 1e-3
    assert sum("left out" in remark for remark in translation.remarks) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("num_classes = 5", "two classes"),
        ("compute_ROC = False", "always worked out"),
        ("attention_mask = True", "always hidden"),
        ("test_ratio = 1.5", "test_ratio = 1.5 is not possible"),
        ("epoch = 0", "epoch = 0 is not possible"),
        ("lr = -1", "learning_rate = -1 is not possible"),
        ("dropout_rate = 1.0", "dropout = 1.0 is not possible"),
        ("mlp_units = ['a', 8]", "mlp_units"),
        ("num_heads = 3.5", "num_heads = 3.5 is not possible"),
        ("colour = 3", "colour is no name"),
        ("k_event = -5", "k_event = -5 is not possible"),
    ],
)
def test_what_cannot_be_said_is_remarked_and_the_card_still_builds(tmp_path, line, said):
    translation = translated(tmp_path, INPUT.format(model=1) + line + "\n")
    assert any(said in remark for remark in translation.remarks)
    builds(translation.card)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr = 0.1", "model is None"),
        ("model = 4", "model is 4"),
        ("model = 1", "sig_file is None"),
        ("model = (", "cannot be read"),
    ],
)
def test_files_without_a_model_are_refused(tmp_path, text, said):
    with pytest.raises(CardError, match=said):
        translated(tmp_path, text)
    with pytest.raises(CardError, match="cannot be read"):
        translate_seed(tmp_path / "nothing.py")
