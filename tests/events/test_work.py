import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.tasks import die, environment
from manyscale.errors import CardError, DataError, MissingExtraError
from manyscale.events.settings import (
    NAMED_PROCESSES,
    DetectorSettings,
    GenerateSettings,
    TrackSettings,
)
from manyscale.events.work import SHARE, ProcessPool, plan, run_units, usable_cores

UNITS = list(range(7))


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({}, 8),
        ({"": "max 100000"}, 8),
        ({"": "300000 100000"}, 3),
        ({"batch/job": "max 100000", "batch": "150000 100000"}, 2),
        ({"batch/job": "10000 100000"}, 1),
        ({"batch/job": "6400000 100000"}, 8),
        ({"other": "100000 100000"}, 8),
    ],
)
def test_cores_are_those_that_a_batch_system_or_a_container_grants(
    monkeypatch, tmp_path, limits, cores
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    (tmp_path / "own").write_text("1:cpuset:/\n0::/batch/job\n")
    monkeypatch.setattr("manyscale.events.work._OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr("manyscale.events.work._GROUPS", tmp_path / "groups")
    for group, limit in limits.items():
        folder = tmp_path / "groups" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores() == cores
    (tmp_path / "own").unlink()
    assert usable_cores() == 8
    monkeypatch.setenv(SHARE, "3")
    assert usable_cores() == 3


class _Attempts:
    """A task that fails in chosen units, the first times that it is called for them."""

    def __init__(self, failures, error=RuntimeError):
        self.failures, self.error, self.calls = dict(failures), error, []

    def __call__(self, unit):
        self.calls.append(unit)
        if self.failures.get(unit, 0) > 0:
            self.failures[unit] -= 1
            raise self.error(f"fault of {unit}")
        return unit * 10


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as executor:
        yield executor


def test_every_unit_is_done_once(threads):
    done = dict(run_units(_Attempts({}), UNITS, threads, in_flight=3))
    assert done == {unit: unit * 10 for unit in UNITS}


def test_failed_unit_is_done_again(threads):
    task = _Attempts({3: 1, 5: 1})
    assert len(dict(run_units(task, UNITS, threads, in_flight=2))) == len(UNITS)
    assert sorted(task.calls) == sorted([*UNITS, 3, 5])


def test_unit_that_fails_twice_is_named_after_the_others_are_done(threads):
    done = []
    with pytest.raises(DataError, match=r"1 of 7 units failed.*: 2: RuntimeError: fault of 2"):
        done.extend(run_units(_Attempts({2: 2}), UNITS, threads, in_flight=1))
    # A list that is extended keeps what came before the exception.
    assert [unit for unit, _ in done] == [0, 1, 3, 4, 5, 6]


def test_many_failed_units_are_counted(threads):
    with pytest.raises(DataError, match=r"7 of 7 units failed.*and 2 more"):
        list(run_units(_Attempts(dict.fromkeys(UNITS, 2)), UNITS, threads, in_flight=7))


def test_fault_of_the_card_ends_at_once(threads):
    task = _Attempts({1: 1}, CardError)
    with pytest.raises(CardError, match="fault of 1"):
        list(run_units(task, UNITS, threads, in_flight=1))
    assert task.calls == [0, 1]


class _Counting(ThreadPoolExecutor):
    """Counts units that are handed over and not yet taken back."""

    def __init__(self):
        super().__init__(2)
        self.open, self.most = 0, 0

    def submit(self, fn, /, *args, **kwargs) -> Future:
        self.open += 1
        self.most = max(self.most, self.open)
        return super().submit(fn, *args, **kwargs)


def test_number_in_flight_is_bounded():
    with _Counting() as executor:
        for _ in run_units(_Attempts({}), range(40), executor, in_flight=3):
            executor.open -= 1
        assert executor.most == 3


def test_process_pool_works_and_says_when_a_worker_dies(capfd):
    with ProcessPool(1) as pool:
        done = dict(run_units(environment, UNITS, pool, in_flight=2))
        assert sorted(done) == UNITS
        ((process, threads, torch),) = set(done.values())
        assert process != os.getpid()
        assert threads == "1"
        assert not torch
        with pytest.raises(DataError, match="worker process has died"):
            list(run_units(die, [1, 1], pool, in_flight=1))
    assert capfd.readouterr() == ("", "")


SCRIPT = """
import time
from manyscale.events.work import ProcessPool, run_units

def nap(unit):
    open(f"started{unit}", "w").close()
    time.sleep(60)

if __name__ == "__main__":
    with ProcessPool(2) as pool:
        print("ready", flush=True)
        list(run_units(nap, range(6), pool, 4))
"""


def _alive(group):
    """Processes of a group that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(owner) == group and state != "Z":
            found.append(folder.name)
    return found


def _wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


@pytest.fixture
def napping(tmp_path):
    """Start the script with two workers; its processes are a group of their own."""
    (tmp_path / "script.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    for pid in _alive(process.pid):
        os.kill(int(pid), signal.SIGKILL)
    process.communicate()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads the table of processes in /proc")
class TestEnd:
    @pytest.mark.parametrize("working", [False, True])
    def test_ctrl_c_ends_parent_and_workers_without_their_tracebacks(
        self, napping, tmp_path, working
    ):
        if working:
            _wait_until(lambda: len(list(tmp_path.glob("started*"))) == 2)
        os.killpg(napping.pid, signal.SIGINT)
        _, errors = napping.communicate(timeout=20)
        assert errors.count("Traceback") == 1
        assert errors.strip().endswith("KeyboardInterrupt")
        assert "nap" not in errors.partition("Traceback")[2].partition("run_units(nap")[2]
        _wait_until(lambda: not _alive(napping.pid))

    def test_workers_end_when_their_parent_is_killed(self, napping, tmp_path):
        _wait_until(lambda: len(list(tmp_path.glob("started*"))) == 2)
        assert len(_alive(napping.pid)) >= 3
        napping.kill()
        _wait_until(lambda: not _alive(napping.pid))


def _events(units):
    counts = Counter()
    for unit in units:
        counts[unit.process] += unit.events
    return dict(counts)


def test_events_of_each_class_by_their_shares():
    units = plan(GenerateSettings(events=10_000), seed=1)
    assert _events(units) == {
        "hh4b": 10_000,
        "qcd_bb": 4000,
        "qcd": 3000,
        "ttbar": 2000,
        "zz": 1000,
    }
    assert max(unit.events for unit in units) == 500


@pytest.mark.parametrize("events", [1, 2, 3, 7, 999, 1001])
def test_every_event_is_planned_once(events):
    counts = _events(plan(GenerateSettings(events=events, unit_events=100), seed=1))
    assert counts["hh4b"] == events
    assert sum(counts.values()) == 2 * events


def test_one_class_alone():
    settings = GenerateSettings.model_validate({"events": 10, "processes": {"zz": {}}})
    assert _events(plan(settings, seed=1)) == {"zz": 10}


def test_longer_run_goes_on_where_the_shorter_ended():
    def described(events):
        units = plan(GenerateSettings(events=events, unit_events=100), seed=1)
        return {(u.process, u.index): (u.seed, u.identity, u.events) for u in units}

    short, long = described(350), described(700)
    for key, (seed, identity, events) in short.items():
        assert long[key][:2] == (seed, identity)
        assert long[key][2] >= events


def test_seeds_are_pythias_and_all_different():
    units = plan(GenerateSettings(events=20_000, unit_events=10), seed=2**31 - 1)
    for process in {unit.process for unit in units}:
        seeds = [unit.seed for unit in units if unit.process == process]
        assert len(set(seeds)) == len(seeds)
        assert min(seeds) >= 1
        assert max(seeds) <= 900_000_000
    assert {u.seed for u in plan(GenerateSettings(), 1)}.isdisjoint(
        u.seed for u in plan(GenerateSettings(), 2)
    )


def test_identity_follows_from_all_that_the_events_follow_from():
    base = GenerateSettings(events=10)
    changed = (
        GenerateSettings(events=10, detector=DetectorSettings(tracks=TrackSettings(max_eta=2.4))),
        GenerateSettings(events=10, energy=13_000),
        GenerateSettings(events=10, variations=True),
    )
    identities = [
        unit.identity
        for settings, seed in [(base, 1), (base, 2), *((other, 1) for other in changed)]
        for unit in plan(settings, seed)
    ]
    assert len(set(identities)) == len(identities)
    assert plan(base, 1) == plan(base, 1)


def test_identity_follows_from_what_a_named_process_is(monkeypatch):
    before = plan(GenerateSettings(events=10), 1)
    zz = NAMED_PROCESSES["zz"]
    changed = zz._replace(pythia=(*zz.pythia, "PhaseSpace:pTHatMin=300"))
    monkeypatch.setitem(NAMED_PROCESSES, "zz", changed)
    after = plan(GenerateSettings(events=10), 1)
    assert [unit.process for unit in after if unit not in before] == ["zz"]


def test_units_have_names():
    assert str(plan(GenerateSettings(), 1)[1]) == "unit 1 of hh4b"


def test_missing_library_is_named(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fastjet" else found(name)
    )
    with pytest.raises(MissingExtraError, match=r"'fastjet'.*pip install 'manyscale\[generate\]'"):
        plan(GenerateSettings(), 1)
