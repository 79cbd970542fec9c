"""The trees on the seed's demo events reach what engineered features are known to reach."""

from pathlib import Path

import numpy as np
import pytest

from manyscale.data.packing import PackedEvents
from manyscale.evaluation.trees import Table, Trees
from manyscale.events.ragged import PackedStream
from manyscale.features.extractor import FeatureExtractor
from manyscale.features.summaries import summaries
from manyscale.schema import StreamSchema
from manyscale.statistics.metrics import auc

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "seed_demo"
NAMED = ("delta_eta", "delta_phi", "pt", "energy", "log_pt_rel", "log_energy_rel", "particle_class")


def read_events():
    """Half of the events, to be quick."""
    arrays = [np.load(FOLDER / f"{name}.npz")["arr_0"][::2] for name in ("background", "signal")]
    values = np.concatenate(arrays).astype(np.float32)
    label = np.repeat([0, 1], [len(array) for array in arrays])
    real = values[:, :, NAMED.index("pt")] != 0
    stream = PackedStream(values[real], real.sum(1), np.zeros((len(values), 0), np.float32))
    return PackedEvents(
        {"constituents": stream},
        np.arange(len(label), dtype=np.uint64),
        label,
        label,
        np.ones(len(label)),
    )


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the seed's demo data are not beside the project")
@pytest.mark.parametrize(
    ("columns", "least"), [(NAMED, 0.9965), (tuple(f"f{place}" for place in range(7)), 0.9955)]
)
def test_trees_on_the_seed_demo(columns, least):
    events = read_events()
    schema = StreamSchema(name="constituents", columns=columns)
    matrix, names = summaries(events.streams, {"constituents": FeatureExtractor.for_stream(schema)})
    order = np.random.default_rng(0).permutation(len(events))
    test, validation, train = np.split(order, [3000, 3800])
    tables = (Table(matrix[part], events.label[part]) for part in (train, validation))
    trees = Trees.fit(*tables, names, seed=0)
    assert auc(events.label[test], trees.predict(matrix[test], names)) > least
