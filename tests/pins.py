"""Record what a refactoring must not change, and compare with a recording made before it.

    python tests/pins.py record before.json
    python tests/pins.py compare before.json [--rtol 1e-6]

Knows the command line and the files that commands write, nothing of the modules, so that it survives
any move of them. `--quick` is the part that `tests/test_pins.py` holds; after a change on purpose:

    python tests/pins.py record --quick tests/pinned.json
"""

import argparse
import csv
import hashlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file

COMMANDS = (
    "card", "compare", "convert", "demo", "evaluate", "explain", "export", "generate", "inspect",
    "limits", "predict", "report", "train",
)  # fmt: skip
PRESETS = ("kinematics-only", "concatenation", "model-1", "model-2", "model-3", "custom")
STREAMS = {
    "jet1": ["pt", "delta_eta", "delta_phi", "energy"],
    "jet2": ["pt", "delta_eta", "delta_phi", "energy"],
    "kinematics": ["pt", "eta", "phi", "mass"],
}
KINDS = {"signal": 200, "background": 240}
LONG = 20  # longer arrays of numbers are kept as their digest, sums and first values
TIMING = re.compile(r"(^|_)(seconds|per_second|memory_mb)$|^made$")

# Commands of one list share a process, which saves the imports. Figures are built and their numbers
# written; only drawing them, most of a run's time, is left out.
CHILD = """
import io, json, sys
from contextlib import redirect_stdout
from manyscale.cli import main

commands, draws = json.loads(sys.argv[1])
if draws:
    from matplotlib.figure import Figure

    def savefig(figure, target, **_):
        svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt" viewBox="0 0 9 9"/>'
        if isinstance(target, io.StringIO):
            target.write(svg)
        elif hasattr(target, "write"):
            target.write(svg.encode())
        else:
            open(target, "w").write(svg)

    Figure.savefig = savefig
printed = []
for command in commands:
    sys.argv = ["manyscale", *command]
    with redirect_stdout(io.StringIO()) as out:
        try:
            main()
        except SystemExit as end:
            if end.code:
                sys.exit(f"manyscale {' '.join(command)}: exit code {end.code}")
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


def manyscale(folder, *commands, draws=True):
    """Type commands in a folder, each given as a line; return what each printed."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in {"FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TERMINAL_WIDTH"}
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([[line.split() for line in commands], draws])],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{done.stderr[-3000:]}\nof: {', '.join(commands)}")
    return json.loads(done.stdout)


def write_npz(folder):
    """Write an npz for each class and stream, and one of all streams to predict on."""
    rng = np.random.default_rng(12)
    arrays = {}
    for kind, events in KINDS.items():
        for stream in STREAMS:
            signal = kind == "signal"
            tokens = 5 if stream == "kinematics" else 12
            pt = rng.exponential(30.0 if signal else 24.0, (events, tokens)) + 1
            pt[:, 0] += 200
            spread = 0.25 if signal else 0.2
            eta, phi = rng.normal(0, 1 if stream == "kinematics" else spread, (2, events, tokens))
            last = pt * np.cosh(eta) if stream != "kinematics" else rng.gamma(9, 9, pt.shape)
            values = np.stack([pt, eta, phi, last], axis=-1)
            count = rng.integers(3, tokens + 1, events)
            values[np.arange(tokens) >= count[:, None]] = 0
            # Rounded: the same bytes, and so the same event_id and split, on every machine.
            arrays[kind, stream] = values.round(2).astype(np.float32)
            np.savez(folder / f"{kind}_{stream}.npz", arrays[kind, stream])
    np.savez(folder / "new.npz", **{stream: arrays["signal", stream] for stream in STREAMS})


def write_cards(folder):
    """Write the cards; between them they use most of what a network can be made of."""

    def card(name, preset, data, *, streams=None, epochs=2, training=None, **sections):
        small = {"layers": 1, "width": 16, "heads": 2}
        content = {
            "preset": preset,
            "data": {**data, "split": {"train": 0.5, "validation": 0.15, "test": 0.35}},
            "streams": {stream: {**small, **keys} for stream, keys in (streams or {}).items()},
            "head": {"units": [16]},
            "training": {"epochs": epochs, "batch_size": 32, **(training or {})},
            **sections,
        }
        (folder / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")

    def npz(*streams):
        files = {kind: {s: f"{kind}_{s}.npz" for s in streams} for kind in KINDS}
        return {**files, "columns": {stream: STREAMS[stream] for stream in streams}}

    three = npz(*STREAMS)
    shared = {
        "jet1": {"encoder": "jets", "dropout": 0.1},
        "jet2": {"encoder": "jets", "dropout": 0.1},
        "kinematics": {"max_tokens": 4},
    }
    card("model-1", "model-1", npz("jet1"), streams={"jet1": {"layers": 2}})
    card("model-2", "model-2", three, streams=shared, epochs=3)
    card("kinematics-only", "kinematics-only", three, streams={"kinematics": {}})
    card(
        "concatenation",
        "concatenation",
        three,
        streams={stream: {} for stream in STREAMS},
        training={"accumulate": 2},
    )
    card("model-3", "model-3", three, streams={"jet1": {}, "kinematics": {}})
    card(
        "custom",
        "custom",
        three,
        streams={
            "jet1": {"frame": {"centre": "pt", "rotate": "principal", "flip": True}},
            "jet2": {"frame": {"rotate": "second"}, "max_tokens": 6},
            "kinematics": {"positions": True},
        },
        fusion=[
            {"query": "jet1", "context": ["jet2"]},
            {"query": "kinematics", "context": ["jet1", "jet2"], "layers": 2, "dropout": 0.1},
        ],
        training={"weight_decay": 0.1, "clip": 0.5, "patience": 2},
    )
    card(
        "generated",
        "model-2",
        {"dataset": "data"},
        streams=shared,
        generate={
            "events": 120,
            "multiparton": False,
            "variations": True,
            "processes": {
                "hh4b": {"cross_section": 0.01},
                "qcd_bb": {"cross_section": 0.05, "share": 0.7},
                "ttbar": {"cross_section": 0.03, "share": 0.3},
            },
        },
        evaluation={
            "systematics": {
                "rate": {"normalisation": 0.1},
                "jes": {"energy_scale": 0.05},
            },
            "limits": {"bins": 3, "floor": 5.0},
        },
    )


def record(*, quick=False):
    """Run the commands in a folder of their own; return what they left, by what it is of."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_npz(folder)
        write_cards(folder)
        helps = manyscale(
            folder, "--help", *(f"{command} --help" for command in COMMANDS), draws=False
        )
        cards = manyscale(folder, *(f"card {preset}" for preset in PRESETS), draws=False)
        pins = {
            "quick": quick,
            "help": dict(zip(("manyscale", *COMMANDS), map(lines, helps), strict=True)),
            "card": dict(zip(PRESETS, map(lines, cards), strict=True)),
        }
        trained = (
            ("model-1", "model-2") if quick else ("model-1", "model-2", "concatenation", "custom")
        )
        manyscale(
            folder,
            *(f"train {name}.yaml --out {name}" for name in trained),
            "predict model-2 new.npz --out new.parquet",
        )
        runs = {name: run_of(folder / name) for name in trained}
        pins |= {"run": runs, "predict": {"npz": scores_of(folder / "new.parquet")}}
        if quick:
            return json.loads(
                json.dumps(pins), parse_float=lambda text: float(f"{float(text):.7g}")
            )

        manyscale(folder, "compare kinematics-only.yaml model-3.yaml --out both")
        for name in ("kinematics-only", "model-3"):
            runs[name] = run_of(folder / "both" / name)
        pins["comparison"] = json_of(folder / "both" / "comparison.json")

        manyscale(folder, "generate generated.yaml --out data --workers 2", draws=False)
        manyscale(
            folder,
            "train generated.yaml --out generated",
            "limits generated --luminosity 3000",
            "explain generated --events 80 --display 6",
            "predict generated data --out data.parquet",
        )
        runs["generated"] = run_of(folder / "generated")
        manyscale(folder, "evaluate generated --luminosity 300")
        pins["evaluate"] = json_of(folder / "generated" / "metrics.json")
        pins["predict"]["dataset"] = scores_of(folder / "data.parquet")
        pins["dataset"] = {
            "dataset.json": json_of(folder / "data" / "dataset.json"),
            "parts": {
                path.stem: scores_of(path) for path in sorted((folder / "data/parts").iterdir())
            },
        }
        return json.loads(json.dumps(pins))


def run_of(folder):
    """What a run folder holds, but for what differs from time to time."""
    with (folder / "history.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    history = {key: [float(row[key]) for row in rows] for key in rows[0] if not TIMING.search(key)}
    plots = {}
    for path in sorted((folder / "plots").glob("*.csv")):
        text = path.read_text(encoding="utf-8")
        header, *rest = text.splitlines()
        plots[path.stem] = {"header": header, "rows": len(rest), "sha256": digest(text.encode())}
    found = {
        "weights": weights_of(folder / "model" / "weights.safetensors"),
        "trees": {"sha256": digest((folder / "model" / "trees.txt").read_bytes())},
        "history": history,
        "plots": plots,
    }
    for path in sorted(folder.glob("scores/*.parquet")):
        found[f"scores/{path.name}"] = scores_of(path)
    for pattern in (
        "metrics.json", "model/config.json", "model/features.json", "limits/**/*.json",
        "explanation/*.json",
    ):  # fmt: skip
        for path in sorted(folder.glob(pattern)):
            found[str(path.relative_to(folder))] = json_of(path)
    return found


def weights_of(path):
    """The tensors by shape, whatever their names."""
    found = {}
    for tensor in load_file(path).values():
        entry = found.setdefault("x".join(map(str, tensor.shape)) or "scalar", {"sha256": []})
        entry["sha256"].append(digest(tensor.tobytes()))
        entry["tensors"] = len(entry["sha256"])
        # Not of vectors: the bias of the keys has no gradient but rounding, which Adam blows up.
        if tensor.ndim > 1:
            entry["sum"] = entry.get("sum", 0.0) + float(tensor.sum(dtype=np.float64))
            entry["abs_sum"] = entry.get("abs_sum", 0.0) + float(
                np.abs(tensor).sum(dtype=np.float64)
            )
    for entry in found.values():
        entry["sha256"].sort()
        for key in ("sum", "abs_sum"):  # the order of adding up follows the names
            if key in entry:
                entry[key] = float(f"{entry[key]:.12g}")
    return dict(sorted(found.items()))


def scores_of(path):
    """The columns of a Parquet file."""
    columns = {}
    table = pq.read_table(path)
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            columns[name] = {"type": str(column.type), **summary(column.to_numpy())}
        else:
            text = json.dumps(column.to_pylist()).encode()
            columns[name] = {"type": str(column.type), "sha256": digest(text)}
    return columns


def json_of(path):
    return shortened(json.loads(path.read_text(encoding="utf-8")))


def shortened(value):
    """JSON with its long arrays of numbers summarised and timings left out."""
    if isinstance(value, dict):
        return {key: shortened(part) for key, part in value.items() if not TIMING.search(key)}
    if isinstance(value, list):
        if len(value) > LONG and all(type(part) in {int, float} for part in value):
            return summary(np.array(value))
        return [shortened(part) for part in value]
    return value


def summary(values):
    """Length, digest, sums and the first values of an array."""
    floats = values.astype(np.float64)
    return {
        "length": len(values),
        "sha256": digest(values.tobytes()),
        "sum": float(np.nansum(floats)),
        "abs_sum": float(np.nansum(np.abs(floats))),
        "first": values[:5].tolist(),
    }


def digest(data):
    return hashlib.sha256(data).hexdigest()[:16]


def lines(text):
    return [line.rstrip() for line in text.splitlines()]


def differences(before, after, rtol=0.0, path=""):
    """Yield a line for each difference; with a tolerance, digests are not compared."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before | after:
            below = f"{path}/{key}"
            if key == "sha256" and rtol:
                continue
            if key not in after or key not in before:
                yield f"{below}: {'gone' if key in before else 'new'}"
            elif key == "sum":
                # Terms of both signs cancel: the sum is as exact as the sum of their sizes.
                if not close(before[key], after[key], rtol, rtol * before.get("abs_sum", 0.0)):
                    yield f"{below}: {before[key]!r} -> {after[key]!r}"
            else:
                yield from differences(before[key], after[key], rtol, below)
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{path}: {len(before)} -> {len(after)} entries"
        for index, pair in enumerate(zip(before, after, strict=False)):
            yield from differences(*pair, rtol, f"{path}[{index}]")
    elif not close(before, after, rtol, 1e-3 * rtol):
        yield f"{path}: {before!r} -> {after!r}"


def close(before, after, rtol, atol):
    """Whether two values are the same: numbers within a tolerance, all else exactly."""
    if {type(before), type(after)} <= {int, float}:
        if math.isnan(before) or math.isnan(after):
            return math.isnan(before) and math.isnan(after)
        return before == after or math.isclose(before, after, rel_tol=rtol, abs_tol=atol)
    return type(before) is type(after) and before == after


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("record", "compare"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--quick", action="store_true", help="record what the tests hold")
    parser.add_argument("--rtol", type=float, default=0.0, help="0: to the bit")
    arguments = parser.parse_args()
    if arguments.action == "record":
        text = json.dumps(record(quick=arguments.quick), indent=0 if arguments.quick else 1)
        arguments.file.write_text(text + "\n", encoding="utf-8")
        return 0
    before = json.loads(arguments.file.read_text(encoding="utf-8"))
    found = list(differences(before, record(quick=before["quick"]), arguments.rtol))
    sys.stdout.writelines(f"{line}\n" for line in [*found, f"{len(found)} differences"])
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
