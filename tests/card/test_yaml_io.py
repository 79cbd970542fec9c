from pathlib import Path

import pytest
import torch
from torch import nn

from helpers.toys import SCHEMA
from manyscale.card import Card, card_text, load_card, parse_card, preset_card, preset_card_text
from manyscale.errors import CardError
from manyscale.estimator import Classifier
from manyscale.model.presets import PRESETS
from manyscale.runs.fit import build_model


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("preset", PRESETS)
def test_printed_card_reads_back_as_what_it_was_made_of(preset, full):
    assert parse_card(preset_card_text(preset, full=full)) == preset_card(preset)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_key_of_a_printed_card_has_a_comment(preset, full):
    for line in preset_card_text(preset, full=full).splitlines():
        entry = line.strip()
        if (
            entry
            and not entry.startswith("#")
            and not entry.partition(":")[2].strip().startswith("{")
        ):
            assert "#" in line or entry.startswith("- {"), line


def test_empty_card_is_all_defaults():
    assert parse_card("") == Card()


def test_card_of_the_contract_is_read(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text(
        """
preset: model-2
seed: 1
data:
  signal:     {jet1: s1.npz, jet2: s2.npz, kinematics: s3.npz}
  background: {jet1: b1.npz, jet2: b2.npz, kinematics: b3.npz}
  columns: {jet1: [delta_eta, delta_phi, pt, energy]}
  streams: null
  split: {train: 0.7, validation: 0.15, test: 0.15}
  max_events: null
classes: {signal: [hh4b], background: [qcd, ttbar]}
streams:
  jet1: {layers: 2, width: 32, heads: 2, max_tokens: 128, encoder: jets, positions: false}
fusion: [{query: kinematics, context: [jet1, jet2], layers: 1, heads: 2}]
training: {epochs: 20, batch_size: 256, learning_rate: 1.0e-3, max_steps: null}
generate: {events: 10000, processes: {hh4b: {}, qcd_bb: {}}, detector: {}, jets: {}}
evaluation: {luminosity: 3000}
"""
    )
    card = load_card(path)
    assert card.training.learning_rate == 1e-3
    assert card.streams["jet1"].encoder == "jets"
    assert card.fusion is not None
    assert card.fusion[0].context == ("jet1", "jet2")
    assert parse_card(card_text(card, "again")) == card


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "0.001", "1E-3"])
def test_numbers_are_those_of_yaml_1_2(number):
    assert parse_card(f"training: {{learning_rate: {number}}}").training.learning_rate == 1e-3


def test_lone_file_is_the_stream_of_constituents():
    card = parse_card("data: {signal: a.npz, background: b.npz}")
    assert card.data.signal is not None
    assert list(card.data.signal) == ["constituents"]


def test_changes_come_before_the_check():
    card = parse_card(
        "", changes=["training.epochs=3", "data.split={train: 0.8, validation: 0.1, test: 0.1}"]
    )
    assert (card.training.epochs, card.data.split.train) == (3, 0.8)
    for change, said in [
        ("training.epochs", "write it as key=value"),
        ("training.epochs=0", "--set: training.epochs is 0"),
        ("seed.x=1", "unknown key 'seed.x'|seed is"),
        ("epochs=2", "--set: unknown key 'epochs'; did you mean 'training.epochs'"),
        ("epoch=2", "did you mean 'training.epochs'"),
        ("heads=4", r"did you mean 'streams.NAME.heads' or 'fusion\[0\].heads'"),
        ("data.epochs=2", "did you mean 'training.epochs'"),
        ("trainig.epochs=2", "--set: unknown key 'trainig'; did you mean 'training'"),
    ]:
        with pytest.raises(CardError, match=said):
            parse_card("", changes=[change])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preset: model-9", r"line 1: preset is \"model-9\"; it must be .*'model-2'"),
        ("preset: model-2\ntrainig: {}", "line 2: unknown key 'trainig'; did you mean 'training'"),
        ("training:\n  epoch: 3", "line 2: unknown key 'training.epoch'; did you mean 'epochs'"),
        ("streams:\n  jet1: {layer: 3}", "unknown key 'streams.jet1.layer'; did you mean 'layers'"),
        ("fusion:\n- {query: a, context: [b], head: 2}", r"unknown key 'fusion\[0\].head'"),
        ("fusion: [{context: [b]}]", r"'fusion\[0\].query' is missing"),
        ("streams: {jet1: {heads: 3}}", "streams.jet1: heads is 3; the width 32 is not a multiple"),
        ("streams: null", "streams is null; it must be a mapping"),
        ("data: {streams: jet1}", "it must be a list"),
        ("training: {epochs: 0}", "training.epochs is 0; it must be greater than or equal to 1"),
        ("training: {epochs: true}", "training.epochs is true; it must be a valid integer"),
        ("training: {epochs: many}", 'training.epochs is "many"; it must be a valid integer'),
        ("training: {batch_size: 2.5}", "training.batch_size is 2.5"),
        ("training: {learning_rate: .nan}", "training.learning_rate is NaN; it must be"),
        (
            "training: {learning_rate: -1}",
            "training.learning_rate is -1; it must be greater than 0",
        ),
        ("data: {split: {train: 0.9, validation: 0.2, test: 0.1}}", "must add up to 1"),
        ("data: {signal: a.npz}", "background is missing"),
        ("data: {dataset: d, signal: a.npz, background: b.npz}", "not both"),
        ("evaluation: {luminosity: 0}", "evaluation.luminosity is 0; it must be greater than 0"),
        ("- a\n- b", "a card is a mapping"),
        ("seed: 1\nseed: 2", "line 2: this is not plain YAML"),
        ("seed: [1", "this is not plain YAML"),
        ("seed: &a [*a]", "this is no plain card"),
        ("? [1, 2]\n: 3", "plain"),
        ("head: {units: [-3]}", "head.units"),
        ("seed: !!python/object/apply:os.system ['true']", "this is not plain YAML"),
        ("seed: !custom 3", "this is not plain YAML"),
    ],
)
def test_faults_name_line_key_value_and_what_is_allowed(text, said):
    with pytest.raises(CardError, match=said):
        parse_card(text)


def test_all_faults_at_once():
    with pytest.raises(CardError) as caught:
        parse_card("seeed: 1\ntraining: {epochs: 0, batch_size: 0}\npreset: x")
    assert len(str(caught.value).splitlines()) == 4


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CardError, match="there is no card"):
        load_card(tmp_path / "none.yaml")
    with pytest.raises(CardError, match="is a folder"):
        load_card(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CardError, match="cannot be read"):
        load_card(tmp_path / "binary.yaml")


def test_a_list_with_a_wrong_item_is_not_called_too_short_as_well():
    with pytest.raises(CardError) as caught:
        parse_card("generate: {streams: [jets]}")
    assert "generate.streams[0]" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_one_network_printed_named_or_from_python(preset):
    streams = SCHEMA.streams
    if preset == "model-1":
        streams = (streams[0].model_copy(update={"name": "constituents"}),)
    schema = SCHEMA.model_copy(update={"streams": streams})
    cards = [
        parse_card(preset_card_text(preset)),
        parse_card(preset_card_text(preset, full=True)),
        parse_card(f"preset: {preset}"),
        Classifier(preset=preset)._card(),
    ]
    first, *others = (build_model(card, schema) for card in cards)
    dropout = {part.p for part in first.modules() if isinstance(part, nn.Dropout)}
    assert dropout == ({0.0} if preset == "model-1" else {0.1})
    for other in others:
        assert other.settings == first.settings
        for one, same in zip(first.parameters(), other.parameters(), strict=True):
            assert torch.equal(one, same)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("model-2", "model-1", "delete `fusion` and `streams.jet2` and `streams.kinematics`"),
        ("model-2", "concatenation", "no stream queries others: delete `fusion` from"),
        ("model-2", "model-3", "delete `fusion` and `streams.jet2`"),
    ],
)
def test_another_preset_in_a_printed_card_says_what_to_delete(before, after, said):
    text = preset_card_text(before).replace(f"preset: {before}", f"preset: {after}")
    with pytest.raises(CardError, match=f"preset {after} takes .*{said}"):
        build_model(parse_card(text), SCHEMA)


@pytest.mark.parametrize("full", [False, True])
def test_cards_of_the_examples_are_written_as_they_are_read(full):
    paths = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
    assert paths
    for path in paths:
        card = load_card(path)
        assert parse_card(card_text(card, path.name, full=full)) == card


def test_a_short_card_has_what_preset_and_data_need_and_what_was_changed():
    of_files, generated = preset_card_text("model-1"), preset_card_text("model-2")
    for key in ("signal:", "background:", "columns:", "cross_sections:"):
        assert key in of_files
        assert key not in generated
    for key in ("dataset:", "generate:", "fusion:"):
        assert key in generated
        assert key not in of_files
    for text in (of_files, generated):
        assert "detector" not in text
        assert len(text.splitlines()) < 45
    changed = preset_card("model-1").model_copy(
        update={"generate": parse_card("generate: {detector: {tracks: {max_eta: 3}}}").generate}
    )
    short = card_text(changed, "changed", full=False)
    assert "detector: {tracks: {max_eta: 3.0}}" in short
    assert parse_card(short) == changed
