"""The training loop: from a batch to a checkpoint, readable from top to bottom."""

import math
import resource
import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from manyscale.data.feeds import Feed, TrainingBatch
from manyscale.data.mirror import Mirror
from manyscale.errors import RunError
from manyscale.events.ragged import PackedStream
from manyscale.features.columns import StreamBatch, on_device
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.taps import NO_TAPS, Taps
from manyscale.progress import LOG, progress_bar
from manyscale.training import checkpoint
from manyscale.training.checkpoint import TrainingState
from manyscale.training.distributed import agreement, gather
from manyscale.training.graph import GraphedStep
from manyscale.training.schedule import (
    TrainingSettings,
    cycle_ends,
    learning_rate,
    total_steps,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["Clock", "NotFiniteError", "Validation", "parameter_groups", "peak_memory_mb", "train"]


class Validation(NamedTuple):
    """What the best epoch is chosen by: loss and AUC on the validation events."""

    loss: float
    auc: float


def train(  # noqa: C901, PLR0912, PLR0915 - the one loop is to be read in one piece
    network: nn.Module,
    feed: Feed,
    settings: TrainingSettings,
    seed: int,
    *,
    fabric: "Fabric",
    optimizer: torch.optim.Optimizer,
    validate: Callable[[], Validation],
    save: Callable[[TrainingState], None],
    state: TrainingState,
    mirror: Mirror | None = None,
    taps: Taps = NO_TAPS,
    graph: GraphedStep | None = None,
    signals: Sequence[int] = (),
) -> TrainingState:
    """Train the network from where `state` stands to the end, and load its best weights.

    Of a step with n events, over all processes together, the loss is sum(w l) / n, l the
    cross-entropy of an event and w its weight; however many processes share the step, in however
    many parts each works through its share, the gradient is that of this sum.

    The batches are a pure function of (seed, epoch, step), dropout one of (seed, step, process):
    the same card on the same machine gives the same weights, resumed or not.

    Parameters
    ----------
    network, optimizer
        As set up by `fabric`; changed in place.
    feed
        Gives the batches, to each process its share.
    validate
        Evaluates the network as it stands; gives the same in all processes.
    save
        Writes a checkpoint; called in all processes, after each epoch, within one every
        `checkpoint.SECONDS`, and where a signal asks for the end.
    mirror
        Mirrors events at random.
    taps
        Changes what the network sees in training, by torch's own random numbers.
    graph
        On a GPU, does the steps of batches that fit at once.
    signals
        Those held back that ask for the end; see `interrupts.held`.

    Raises
    ------
    KeyboardInterrupt
        Where there are such, once a checkpoint is written.
    NotFiniteError
        Where a gradient is not finite, before it reaches the weights: names events and feature.
    RunError
        Where memory runs out: says which settings would halve what is needed.
    """
    rank, world, device = fabric.global_rank, fabric.world_size, fabric.device
    steps = total_steps(settings, feed.events)
    ends = cycle_ends(steps, settings)
    largest, written = agreement(fabric), time.monotonic()
    with progress_bar("training", steps, "steps", done=state.step) as bar:
        while state.step < steps or state.begun:
            if settings.patience and state.epoch - state.best_epoch >= settings.patience:
                LOG.info(
                    "no lower validation loss in training.patience = %d epochs", settings.patience
                )
                break
            network.train()
            begun, clock = time.perf_counter(), Clock(device)
            watch = _GradientWatch(optimizer, device)
            # Of an epoch that was left in its middle: what this process had added up until then. Of
            # more processes than now it takes over several.
            before = np.sum([[0.0, 0.0], *state.sums[rank::world]], axis=0)
            loss_sum = torch.tensor(before[0], dtype=torch.float32, device=device)
            weight_sum = float(before[1])
            skipped = seen = state.begun * settings.batch_size
            rate = learning_rate(max(0, state.step - 1), steps, settings)
            batches = feed.batches(state.epoch, settings.batch_size, state.begun)
            for share in batches if state.step < steps else ():
                if mirror is not None:
                    share = mirror(share, state.epoch)  # noqa: PLW2901
                together = min(settings.batch_size, feed.events - seen)
                rate = learning_rate(state.step, steps, settings)
                for group in optimizer.param_groups:
                    if isinstance(group["lr"], Tensor):
                        group["lr"].fill_(rate * group["rate"])  # a graph reads it there
                    else:
                        group["lr"] = rate * group["rate"]
                _seed_dropout(seed, state.step, rank, device)
                graphed = False
                if graph is not None and (graphed := graph(share)):
                    norm = graph.norm
                    loss_sum += graph.loss
                    weight_sum += float(share.weight.sum())
                    clock.mark("forward")  # a graph has no phases
                parts = [] if graphed else _parts(share, settings.accumulate)
                for number, part in enumerate(parts, start=1):
                    with (
                        _memory_advice(settings, len(part)),
                        # Gradients are added up over the processes with those of the last part.
                        fabric.no_backward_sync(network, enabled=number < len(parts)),  # type: ignore[arg-type]
                    ):
                        streams, label, weight = _on_device(part, device)
                        clock.mark("data")
                        logits = network(streams, taps)
                        losses = nn.functional.cross_entropy(logits, label, reduction="none")
                        weighted = (weight * losses).sum()
                        clock.mark("forward")
                        # Of the processes' gradients the mean is taken, hence the factor `world`.
                        fabric.backward(weighted / (together / world))
                        clock.mark("backward")
                    loss_sum += weighted.detach()
                    weight_sum += float(part.weight.sum())
                if not graphed:
                    norm = fabric.clip_gradients(  # type: ignore[assignment]
                        network, optimizer, max_norm=settings.clip, error_if_nonfinite=False
                    )
                # In half precision the gradient overflows now and then until its scale is found, and
                # Fabric leaves such a step out; there the loss alone must be finite.
                watched = loss_sum if settings.precision == "16-mixed" else norm
                if (bad := watch.see(watched, share)) is not None:
                    raise _not_finite(bad, network, settings, state, device)
                if not graphed:
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=False)
                clock.mark("optimizer")
                seen += together
                state.step += 1
                state.begun += 1
                bar.advance(1)
                late = time.monotonic() - written > checkpoint.SECONDS
                if due := largest(2 if signals else int(late)):
                    if (bad := watch.last()) is not None:
                        raise _not_finite(bad, network, settings, state, device)
                    state.sums = gather(fabric, [float(loss_sum), weight_sum])
                    save(state)
                    fabric.barrier()
                    written = time.monotonic()
                    if due > 1:
                        raise KeyboardInterrupt
                if state.step in ends:
                    break

            if (bad := watch.last()) is not None:
                raise _not_finite(bad, network, settings, state, device)
            # Weighted mean of the loss over the events of all processes; waits for the device.
            sums = torch.stack([loss_sum, loss_sum.new_tensor(weight_sum)])
            sums = fabric.all_reduce(sums, reduce_op="sum")  # type: ignore[assignment]
            mean_loss = float(sums[0] / sums[1])
            seconds = time.perf_counter() - begun

            network.eval()
            state.sums = gather(fabric, [float(loss_sum), weight_sum])
            validated = time.perf_counter()
            try:
                validation = validate()
            except KeyboardInterrupt:
                save(state)
                raise
            state.epoch += 1
            state.begun, state.sums = 0, []
            if validation.loss < state.best_loss or not state.best:
                state.best = {key: value.clone() for key, value in network.state_dict().items()}
                state.best_epoch = state.epoch
            state.history.append(
                {
                    "epoch": state.epoch,
                    "train_loss": mean_loss,
                    "validation_loss": validation.loss,
                    "validation_auc": validation.auc,
                    "learning_rate": rate,
                    "events_per_second": (seen - skipped) / seconds,
                    **clock.seconds(),
                    "validation_seconds": time.perf_counter() - validated,
                    "peak_memory_mb": peak_memory_mb(device),
                }
            )
            save(state)
            fabric.barrier()
            written = time.monotonic()
            bar.advance(0, note=f"loss {validation.loss:.4f}, AUC {validation.auc:.4f}")
    network.load_state_dict(state.best)
    network.eval()
    return state


def _seed_dropout(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Seed what is random in one step of one process."""
    drawn = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]
    # torch.manual_seed also seeds devices that are not used, which takes a tenth of a small step.
    torch.default_generator.manual_seed(int(drawn))
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(int(drawn))


def _parts(share: TrainingBatch, count: int) -> list[TrainingBatch]:
    """Divide the events of a step into parts of a similar number, none empty."""
    if len(share) == 0:
        # A process without events must still take part in the step of the others: it gets one event
        # without a token that counts nothing.
        none = np.zeros(1, np.int64)
        streams = {
            name: PackedStream(stream.values[:0], none, np.zeros((1, stream.axis.shape[1]), "f4"))
            for name, stream in share.streams.items()
        }
        return [TrainingBatch(streams, none, np.zeros(1, np.float32), np.zeros(1, np.uint64))]
    if count == 1:
        return [share]
    edges = np.unique(np.linspace(0, len(share), count + 1).astype(int)).tolist()
    return [share.between(first, last) for first, last in pairwise(edges)]


def _on_device(
    part: TrainingBatch, device: torch.device
) -> tuple[dict[str, StreamBatch], Tensor, Tensor]:
    """Bring streams, labels and weights to a device."""
    streams = {name: StreamBatch.of(stream, device) for name, stream in part.streams.items()}
    return streams, on_device(part.label, device), on_device(part.weight, device)


class _GradientWatch:
    """Notices a gradient that is not finite before it reaches the weights.

    On a CPU this costs nothing. A GPU would have to be waited for: there it is noticed one step
    later, and the fused optimizer, which reads `found_inf` on the GPU, leaves the weights alone.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        # Fabric's wrapper hands its steps on to the optimizer itself.
        self._optimizer: Any = getattr(optimizer, "optimizer", optimizer)
        self._gpu = device.type == "cuda"
        self._seen: tuple[Tensor, Any, TrainingBatch] | None = None

    def see(self, value: Tensor, share: TrainingBatch) -> TrainingBatch | None:
        """Look at a norm or loss before the step; return the events of a step that was bad."""
        if not self._gpu:
            return None if math.isfinite(float(value)) else share
        if self._optimizer.defaults["fused"]:  # else the scaler of half precision leaves it out
            self._optimizer.found_inf = (~torch.isfinite(value)).float()
        bad = self.last()
        on_host = torch.empty((), pin_memory=True).copy_(value.detach(), non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        self._seen = on_host, copied, share
        return bad

    def last(self) -> TrainingBatch | None:
        """Return the events of the step seen last where it was bad, in case nothing follows it."""
        if self._seen is None:
            return None
        (value, copied, share), self._seen = self._seen, None
        copied.synchronize()
        return None if torch.isfinite(value) else share


class NotFiniteError(RunError):
    """A gradient is not finite in the step of the events `event_id`."""

    def __init__(self, message: str, event_id: NDArray[np.uint64]) -> None:
        super().__init__(message)
        self.event_id = event_id


@torch.no_grad()
def _not_finite(
    share: TrainingBatch,
    network: nn.Module,
    settings: TrainingSettings,
    state: TrainingState,
    device: torch.device,
) -> NotFiniteError:
    """Say which events, and which feature, a gradient that is not finite may come from."""
    model = network.module
    assert isinstance(model, MultiScaleClassifier)  # noqa: S101
    model.eval()
    share = _parts(share, 1)[0]
    streams, label, weight = _on_device(share, device)
    most, which, feature = -1.0, 0, "nothing"
    for name, stream in streams.items():
        extractor = model.extractor(name)
        numbers, _ = extractor.raw(stream)
        far = ((numbers - extractor.mean) / extractor.deviation).abs().nan_to_num(torch.inf)
        if far.numel() and float(far.max()) > most:
            token, column = divmod(int(far.argmax()), far.shape[1])
            most = float(far[token, column])
            which = int(np.searchsorted(np.cumsum(stream.host_counts), token, side="right"))
            feature = f"'{extractor.numbers[column]}' of stream '{name}'"
    found = f"furthest from its mean is {feature} in event {share.event_id[which]}: by {most:.3g} "
    found += "standard deviations"
    if np.isfinite(most):  # else the loss of other events is spoiled, too
        losses = weight * nn.functional.cross_entropy(model(streams), label, reduction="none")
        largest = losses.abs().nan_to_num(torch.inf).topk(min(3, len(share))).indices.tolist()
        found += "; the largest losses are those of events " + ", ".join(
            f"{share.event_id[event]} (weight {share.weight[event]:.3g}, where the mean is 1)"
            for event in largest
        )
    return NotFiniteError(
        f"the gradient is not finite in epoch {state.epoch + 1}, near step {state.step + 1}; the "
        f"weights, and the last checkpoint, are as they were before it. Of the events of this step "
        f"{found}. Lower training.learning_rate (now {settings.learning_rate}), or correct such "
        f"features or weights in the data, and train into another folder",
        share.event_id,
    )


def parameter_groups(
    network: nn.Module,
    weight_decay: float,
    taken: Collection[nn.Parameter] = (),
    start_rate: float = 1.0,
) -> list[dict[str, Any]]:
    """Weights of a network as its optimizer takes them: what decays and what does not.

    Only the matrices of linear layers decay; biases and embeddings of streams and positions have no
    reason to be small. Each group is one array, and so are its gradients, side by side; the
    network's own parameters become views of it. A small network has dozens of them: clipping, the
    optimizer and resetting gradients take one call in place of one each, which makes a step of
    Model 1 at batch 50 a seventh faster on a CPU.

    Parameters
    ----------
    network
        On its device and with its type already; changed in place. Its gradients must be added up in
        place from now on, never dropped.
    weight_decay
        Of what decays.
    taken
        Weights that another training has found: in groups of their own, after the others.
    start_rate
        The factor on the learning rate of these, as `rate` of their groups; 1 of the others.
    """
    # A dict, since encoders that several streams share must be there once.
    matrices = dict.fromkeys(m.weight for m in network.modules() if isinstance(m, nn.Linear))
    others = [one for one in network.parameters() if one not in matrices]
    groups: list[dict[str, Any]] = []
    for own, decay, rate in (
        ([one for one in matrices if one not in taken], weight_decay, 1.0),
        ([one for one in others if one not in taken], 0.0, 1.0),
        ([one for one in matrices if one in taken], weight_decay, start_rate),
        ([one for one in others if one in taken], 0.0, start_rate),
    ):
        if not own:
            continue
        # Each weight begins on a cache line of 16 floats, as it would alone.
        lengths = [-(-one.numel() // 16) * 16 for one in own]
        flat = nn.Parameter(own[0].new_zeros(sum(lengths)))
        flat.grad = torch.zeros_like(flat)
        values, gradients = flat.detach(), flat.grad
        first = 0
        for one, length in zip(own, lengths, strict=True):
            part = slice(first, first + one.numel())
            values[part] = one.detach().flatten()
            one.data = values[part].view_as(one)
            one.grad = gradients[part].view_as(one)
            first += length
        groups.append({"params": [flat], "weight_decay": decay, "rate": rate})
    return groups


class Clock:
    """Adds up the seconds of each phase of the training steps without making a device wait.

    On a GPU, which works through its queue on its own, a mark is an event in this queue: a phase
    takes as long as the GPU takes, and `data` is also the time that it stands idle before a step.

    Parameters
    ----------
    device
        Where the network is trained. The first phase begins at once.
    """

    # Marks that wait to be read: of a GPU as many as it is sure to have passed.
    _WAITING = 1000

    def __init__(self, device: torch.device) -> None:
        self._gpu = device.type == "cuda"
        self._seconds = dict.fromkeys(("data", "forward", "backward", "optimizer"), 0.0)
        self._marks: deque[tuple[str, Any]] = deque()
        self.mark("")

    def mark(self, phase: str) -> None:
        """End a phase: all since the last mark belonged to it."""
        if self._gpu:
            now: Any = torch.cuda.Event(enable_timing=True)
            now.record()
        else:
            now = time.perf_counter()
        self._marks.append((phase, now))
        self._read(self._WAITING if self._gpu else 1)

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far, as `data_seconds` and so on; waits for the device."""
        self._read(1)
        return {f"{phase}_seconds": seconds for phase, seconds in self._seconds.items()}

    def _read(self, waiting: int) -> None:
        while len(self._marks) > waiting:
            _, begun = self._marks.popleft()
            phase, ended = self._marks[0]
            if self._gpu:
                ended.synchronize()
                self._seconds[phase] += begun.elapsed_time(ended) / 1e3  # from ms
            else:
                self._seconds[phase] += ended - begun


def peak_memory_mb(device: torch.device) -> float:
    """Most memory held so far, in MB: of the GPU where there is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = Path("/proc/self/status")
    if status.is_file():  # Linux alone has it
        # getrusage would tell the peak of the process that started this one, where it was higher.
        peak = status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]
        return int(peak) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@contextmanager
def _memory_advice(settings: TrainingSettings, events: int) -> Iterator[None]:
    """Turn what torch and numpy raise when memory runs out, with so many events, into advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch has a class of its own for GPUs alone.
        on_cpu = any(w in str(error) for w in ("can't allocate memory", "not enough memory"))
        if not (on_cpu or isinstance(error, MemoryError | torch.OutOfMemoryError)):
            raise
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        advice = (
            f", with {events} events at a time: half of them should fit. training.accumulate="
            f"{2 * settings.accumulate} works through the same batch in parts of {-(-events // 2)} "
            f"and gives the same result; training.batch_size={max(1, settings.batch_size // 2)} "
            f"takes smaller steps"
        )
        if events == 1:
            advice = (
                " with a single event at a time: take a smaller width or max_tokens of the streams"
            )
        raise RunError(f"out of memory in a training step{advice} ({said})") from error
