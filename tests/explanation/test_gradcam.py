import numpy as np
import pytest
import torch

from helpers.networks import KINDS, NAMES, network_of
from helpers.toys import toy_events
from manyscale.events.ragged import PackedStream
from manyscale.explanation.gradcam import (
    grad_cam,
    grad_cam_places,
    logit_difference,
    token_importance,
)
from manyscale.features.columns import to_torch
from manyscale.model.layers import StreamSettings
from manyscale.model.taps import Taps

EVENTS = 20


def events_of(streams, chosen):
    return {name: stream.take(np.asarray(chosen)) for name, stream in streams.items()}


def evidence_of(network, streams):
    return grad_cam(network, to_torch(streams, np.arange(len(streams["jet1"])))).evidence


class Moved(Taps):
    """Moves the rows at a place; keeps those of all places of Grad-CAM."""

    def __init__(self, network, place=None, by=0.0):
        self.places, self.place, self.by = grad_cam_places(network), place, by
        self.found, self.layouts = {}, {}

    def rows(self, place, rows, layout):
        if place in self.places.values():
            self.found[place.stream], self.layouts[place.stream] = rows, layout
        return rows + self.by if place == self.place else rows


def doubled(network):
    """A network in double precision, so that differences of scores mean something."""
    network.double()
    plain = network.extractor

    class Wide:
        def __init__(self, name):
            self.of = plain(name)

        def __call__(self, batch):
            numbers, classes = self.of(batch)
            return numbers.double(), classes

        def momenta(self, batch):
            found = self.of.momenta(batch)
            return None if found is None else found.double()

    network.extractor = Wide
    return network


@pytest.mark.parametrize("preset", [*KINDS, "custom"])
def test_gradient_is_that_of_finite_differences(preset):
    network = doubled(network_of(preset))
    batch = to_torch(toy_events(3, events=3).streams, np.arange(3))
    taps = Moved(network)
    logit = logit_difference(network(batch, taps))
    assert set(taps.found) == set(network.settings.streams)
    gradients = torch.autograd.grad(logit.sum(), list(taps.found.values()))
    for (name, rows), gradient in zip(taps.found.items(), gradients, strict=True):
        direction = torch.randn(rows.shape, dtype=rows.dtype, generator=torch.manual_seed(1))
        place = grad_cam_places(network)[name]
        with torch.no_grad():
            up, down = (
                logit_difference(network(batch, Moved(network, place, step * direction))).sum()
                for step in (1e-5, -1e-5)
            )
        slope = (up - down).item() / 2e-5
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_evidence_is_the_mean_gradient_times_the_row():
    network = network_of("model-2")
    streams = toy_events(3, events=EVENTS).streams
    taps = Moved(network)
    logit = logit_difference(network(to_torch(streams, np.arange(EVENTS)), taps))
    (gradient,) = torch.autograd.grad(logit.sum(), [taps.found["jet1"]])
    found = evidence_of(network, streams)["jet1"]
    tokens = taps.layouts["jet1"].token_rows
    rows_of, slopes = taps.found["jet1"].detach()[tokens], gradient[tokens]
    first = 0
    for count in streams["jet1"].counts:
        rows, slope = (of[first : first + count] for of in (rows_of, slopes))
        wanted = rows @ slope.mean(0) if count else rows[:, 0]
        torch.testing.assert_close(found[first : first + count], wanted, atol=1e-5, rtol=1e-4)
        first += count


@pytest.mark.parametrize("preset", KINDS)
def test_tokens_of_an_event_sum_to_one_or_nothing_and_speak_for_what_is_said(preset):
    network = network_of(preset)
    streams = network.trim(toy_events(3, events=EVENTS).streams)
    importance = token_importance(network, streams)
    total = sum(
        np.bincount(np.repeat(np.arange(EVENTS), stream.counts), importance[name], EVENTS)
        for name, stream in streams.items()
    )
    assert np.isclose(total, 1, atol=1e-5).sum() + (total == 0).sum() == EVENTS
    assert (total > 0).any()
    found = grad_cam(network, to_torch(streams, np.arange(EVENTS)))
    for name, stream in streams.items():
        said = np.repeat(np.sign(found.logit.numpy()), stream.counts)
        against = said * found.evidence[name].numpy() < 0
        assert (importance[name][against] == 0).all()


@pytest.mark.parametrize("preset", KINDS)
def test_neither_batch_nor_order_nor_padding_matter(preset):
    network = network_of(preset)
    streams = network.trim(toy_events(4, events=EVENTS).streams)
    together = token_importance(network, streams)
    order = np.random.default_rng(0).permutation(EVENTS)
    shuffled = token_importance(network, events_of(streams, order))
    grown = {name: PackedStream.concatenate([s, _giant(s)]) for name, s in streams.items()}
    beside_giant = token_importance(network, grown)
    alone = [token_importance(network, events_of(streams, [event])) for event in range(EVENTS)]
    for name, stream in streams.items():
        rows = np.split(together[name], stream.offsets[1:-1])
        np.testing.assert_allclose(
            shuffled[name], np.concatenate([rows[event] for event in order]), atol=1e-4
        )
        np.testing.assert_allclose(
            np.concatenate([of[name] for of in alone]), together[name], atol=1e-4
        )
        tokens = len(stream.values)
        np.testing.assert_allclose(beside_giant[name][:tokens], together[name], atol=1e-4)


def _giant(stream):
    """One event of very many tokens."""
    one = stream.take(np.array([int(np.argmax(stream.counts))]))
    return PackedStream(np.tile(one.values, (5, 1)), one.counts * 5, one.axis)


def test_stream_whose_tokens_do_not_reach_the_head_has_none():
    network = network_of("concatenation", jet2=StreamSettings(layers=0))
    importance = token_importance(network, toy_events(4, events=EVENTS).streams)
    assert not importance["jet2"].any()
    assert importance["jet1"].any()
    alone = network_of("kinematics-only", kinematics=StreamSettings(layers=0))
    streams = alone.trim(toy_events(4, events=EVENTS).streams)
    assert not token_importance(alone, streams)["kinematics"].any()


def test_shared_encoder_gives_each_stream_its_own():
    shared = StreamSettings(encoder="jets")
    for preset in ("model-2", "concatenation"):
        together = network_of(preset, jet1=shared, jet2=shared)
        apart = network_of(preset)
        weights = {
            key.replace("encoders.of_jet1", "encoders.of_jets"): value
            for key, value in apart.state_dict().items()
            if not key.startswith("encoders.of_jet2")
        }
        together.load_state_dict(weights)
        apart.encoder("jet2").load_state_dict(apart.encoder("jet1").state_dict())
        streams = toy_events(4, events=EVENTS).streams
        found, wanted = evidence_of(together, streams), evidence_of(apart, streams)
        for name in NAMES:
            torch.testing.assert_close(found[name], wanted[name], atol=1e-4, rtol=1e-4)


def test_network_is_left_as_it_was():
    network = network_of("model-2")
    network.head.layers[0].weight.requires_grad_(False)
    before = [parameter.requires_grad for parameter in network.parameters()]
    token_importance(network, toy_events(4, events=EVENTS).streams)
    assert [parameter.requires_grad for parameter in network.parameters()] == before
    assert all(parameter.grad is None for parameter in network.parameters())
