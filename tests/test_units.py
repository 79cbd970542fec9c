"""Units and sentinels are warned of on every way in, in the same words."""

import logging

import numpy as np
import pytest

import manyscale as ms
from helpers.ntuple_files import write_parquet
from manyscale.schema import StreamSchema, misspelt_columns

SAID = (
    "values of 'pt' in the stream 'jet' are outside the usual 0 to 14000 GeV, of about 100000: in "
    "MeV? They are to be in GeV"
)
CARD = """
preset: model-1
data: {signal: {jet: mev.npz}, background: {jet: other.npz}, columns: {jet: [pt, eta]}}
streams: {jet: {layers: 1, width: 8, heads: 1}}
training: {epochs: 1, batch_size: 64}
convert: {branches: {jet: {pt: x, eta: y}}}
"""


@pytest.fixture
def said(type_, tmp_path):
    """In a folder with npz files, a Parquet file and a run: what a way in says on its log."""
    rng = np.random.default_rng(4)
    values = np.stack([rng.uniform(9e4, 2e5, (80, 3)), rng.normal(size=(80, 3))], axis=-1).astype(
        np.float32
    )
    np.savez("mev.npz", values)
    np.savez("other.npz", values[::-1] * np.float32(0.8))
    columns = {"x": list(values[..., 0]), "y": list(values[..., 1])}
    write_parquet("mev.parquet", "t", columns)
    (tmp_path / "card.yaml").write_text(CARD, encoding="utf-8")
    seen = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())
    logging.getLogger("manyscale").addHandler(handler)
    yield seen
    logging.getLogger("manyscale").removeHandler(handler)


def test_every_way_in_warns_of_units(said, type_, tmp_path):
    values = np.load("mev.npz")["arr_0"]
    labels = np.arange(80) % 2
    clf = ms.Classifier("model-1", epochs=1, columns={"jet": ["pt", "eta"]})
    ways = {
        "fit": lambda: clf.fit({"jet": values}, labels),
        "predict_proba": lambda: clf.predict_proba({"jet": values}),
        "read_npz": lambda: clf.fit(
            ms.read_npz({"jet": "mev.npz"}, {"jet": "other.npz"}, {"jet": ["pt", "eta"]})
        ),
        "convert npz": lambda: type_("convert jet=mev.npz --label signal --out a --card card.yaml"),
        "convert": lambda: type_("convert mev.parquet --label signal --out b --card card.yaml"),
        "train": lambda: type_("train card.yaml --out run"),
        "predict npz": lambda: type_("predict run mev.npz --out a.npz"),
        "predict": lambda: type_("predict run mev.parquet --out b.npz"),
    }
    for name, way in ways.items():
        said.clear()
        done = way()
        assert any(line.endswith(f"240 {SAID}") for line in said), name
        if hasattr(done, "err"):  # a command
            warned = [line for line in done.err.splitlines() if SAID in line]
            assert warned, name
            assert all(line.startswith("warning: ") for line in warned)


@pytest.mark.parametrize("name", ["deta", "dEta", "delta_etta"])
def test_a_misspelt_column_is_named_with_what_was_meant(said, type_, tmp_path, name):
    card = CARD.replace("jet: [pt, eta]", f"jet: [pt, {name}]").replace("eta: y", f"{name}: y")
    (tmp_path / "card.yaml").write_text(card, encoding="utf-8")
    for way in (
        "train card.yaml --out run",
        "convert jet=mev.npz --label signal --out a --card card.yaml",
        "convert mev.parquet --label signal --out b --card card.yaml",
    ):
        said.clear()
        warned = [line for line in type_(way).err.splitlines() if f"'{name}'" in line]
        assert warned, way
        assert all(line.startswith("warning: ") for line in warned)
        assert all("did you mean delta_eta?" in line for line in warned)


def test_names_of_ones_own_are_no_misspelt_columns():
    columns = ("f0", "log_kt", "pt2", "eta_1", "btag_score", "tau21", "px")
    assert misspelt_columns(StreamSchema(name="s", columns=columns)) == []
