import pytest
import torch

from manyscale.training import clock
from manyscale.training.clock import Clock


class FakeEvent:
    """An event of a GPU that takes 2 ms for whatever it is asked, and is done with half of it."""

    recorded = 0

    def __init__(self, *, enable_timing):
        self.place = None

    def record(self):
        self.place = FakeEvent.recorded
        FakeEvent.recorded += 1

    def query(self):
        return 2 * self.place <= FakeEvent.recorded

    def synchronize(self):
        pass

    def elapsed_time(self, later):
        return 2.0 * (later.place - self.place)


def test_phases_on_a_cpu_add_up_to_the_time_between_first_and_last_mark(monkeypatch):
    times = iter([10.0, 11.0, 13.0, 13.5, 17.5])
    monkeypatch.setattr(clock.time, "perf_counter", lambda: next(times))
    measured = Clock(torch.device("cpu"))
    for phase in ("data", "forward", "data", "optimizer"):
        measured.mark(phase)
    assert measured.seconds() == {
        "data_seconds": 1.5,
        "forward_seconds": 2.0,
        "backward_seconds": 0.0,
        "optimizer_seconds": 4.0,
    }


def test_phases_on_a_gpu_are_read_from_its_events_and_none_is_lost(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(clock, "_WAITING", 5)
    measured = Clock(torch.device("cuda"))
    for _ in range(10):
        for phase in ("data", "forward", "backward", "optimizer"):
            measured.mark(phase)
    assert len(measured._events) < 40
    for seconds in measured.seconds().values():
        assert seconds == pytest.approx(10 * 2e-3)
