"""Small random events that look like the real ones, for any test."""

import numpy as np

from manyscale.data.packing import PackedEvents
from manyscale.events.ragged import PackedStream
from manyscale.schema import Process, Schema, StreamSchema

JET_COLUMNS = ("pt", "eta", "phi", "energy", "charge", "particle_class")
AXIS = ("jet_pt", "jet_eta", "jet_phi", "jet_mass")
OBJECT_COLUMNS = ("pt", "eta", "phi", "mass", "multiplicity", "n_btags", "width", "object_class")

SCHEMA = Schema(
    streams=(
        StreamSchema(name="jet1", columns=JET_COLUMNS, axis=AXIS),
        StreamSchema(name="jet2", columns=JET_COLUMNS, axis=AXIS),
        StreamSchema(name="kinematics", columns=OBJECT_COLUMNS),
    ),
    processes=(
        Process(name="hh4b", label="signal", cross_section=0.01, sum_weights=1000, generated=1000),
        Process(
            name="qcd", label="background", cross_section=100.0, sum_weights=1000, generated=1000
        ),
    ),
)


def jet_stream(rng, counts, signal=None):
    """Constituents around a random axis; wider for signal events where that is asked for."""
    counts = np.asarray(counts, np.int64)
    events, tokens = len(counts), int(counts.sum())
    owner = np.repeat(np.arange(events), counts)
    axis = np.stack(
        [
            rng.uniform(250, 800, events),
            rng.uniform(-2, 2, events),
            rng.uniform(-np.pi, np.pi, events),
            rng.uniform(20, 200, events),
        ],
        axis=1,
    )
    spread = np.full(tokens, 0.2) if signal is None else np.where(signal, 0.35, 0.15)[owner]
    eta = axis[owner, 1] + rng.normal(0, 1, tokens) * spread
    phi = (axis[owner, 2] + rng.normal(0, 1, tokens) * spread + np.pi) % (2 * np.pi) - np.pi
    pt = rng.exponential(10, tokens) + 0.5
    kind = rng.integers(0, 5, tokens)
    values = np.stack(
        [pt, eta, phi, pt * np.cosh(eta), np.where(kind < 3, rng.choice([-1, 1], tokens), 0), kind],
        axis=1,
    )
    return PackedStream(values.astype(np.float32), counts, axis.astype(np.float32))


def object_stream(rng, events, signal=None):
    """Four objects an event: two jets, their sum, the missing momentum."""
    shift = np.zeros(events) if signal is None else np.where(signal, 30.0, 0.0)
    values = np.stack(
        [
            rng.exponential(200, (events, 4)) + 50,
            rng.normal(0, 1, (events, 4)),
            rng.uniform(-np.pi, np.pi, (events, 4)),
            rng.exponential(60, (events, 4)) + shift[:, None],
            rng.integers(5, 60, (events, 4)),
            rng.integers(0, 3, (events, 4)),
            rng.uniform(0, 1, (events, 4)),
            np.tile([0, 1, 2, 3], (events, 1)),
        ],
        axis=2,
    )
    counts = np.full(events, 4, np.int64)
    return PackedStream(
        values.reshape(-1, 8).astype(np.float32), counts, np.zeros((events, 0), np.float32)
    )


def toy_events(seed, events=40, longest=12, learnable=False):
    """Events of the streams jet1, jet2 and kinematics; empty jets among them."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, events)
    signal = label == 1 if learnable else None
    return PackedEvents(
        {
            "jet1": jet_stream(rng, rng.integers(0, longest + 1, events), signal),
            "jet2": jet_stream(rng, rng.integers(0, longest + 1, events), signal),
            "kinematics": object_stream(rng, events, signal),
        },
        event_id=rng.integers(0, 2**63, events).astype(np.uint64),
        label=label.astype(np.int64),
        process=(1 - label).astype(np.int64),
        weight=np.ones(events),
        observables={"m_hh": rng.uniform(300, 2000, events)},
    )
