"""ONNX: a trained network, features and standardisation inside, for programs without Python or torch."""

import json
import logging
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from manyscale import __version__
from manyscale.deployment.bundle import CLASSES, Bundle, described_features
from manyscale.deployment.predict import class_probabilities
from manyscale.errors import DataError, MissingExtraError, RunError
from manyscale.events.ragged import PackedStream
from manyscale.model.classifier import MultiScaleClassifier
from manyscale.model.padded import PaddedNetwork, padded_array, real_first
from manyscale.schema import COLUMNS
from manyscale.writing import write_whole

if TYPE_CHECKING:
    import onnx

__all__ = ["OUTPUT", "check_onnx_target", "write_onnx"]

#: Name of the output, the probabilities of the classes.
OUTPUT = "probabilities"
# Probabilities that differ by more are no rounding of single precision.
_MOST = 1e-4
# Events of a piece, within which they are padded.
_PIECE = 32


class _Scorer(nn.Module):
    """Arrays as of an npz, one a stream in the network's order, to probabilities (events, classes)."""

    def __init__(self, network: MultiScaleClassifier) -> None:
        super().__init__()
        self.padded = PaddedNetwork(network)

    def forward(self, *arrays: Tensor) -> Tensor:
        network = self.padded.network
        streams = zip(network.settings.streams.items(), arrays, strict=True)
        trimmed = {
            name: real_first(network.extractor(name).stream, values, settings.max_tokens)
            for (name, settings), values in streams
        }
        return self.padded(trimmed).softmax(1)


def check_onnx_target(path: Path) -> None:
    """Refuse, before any work is done, a name that is none of an ONNX file, or missing libraries.

    Raises
    ------
    DataError
        Where the name does not end in .onnx, is that of a folder, or its folder is missing.
    MissingExtraError
        Where onnx, onnxscript or onnxruntime is not installed.
    """
    if path.suffix != ".onnx":
        raise DataError(f"a model is exported as ONNX: {path} must end in .onnx")
    if path.is_dir() or not path.parent.is_dir():
        fault = "it is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise DataError(f"{path} cannot be written: {fault}")
    try:
        import onnx  # noqa: F401, PLC0415 - an extra
        import onnxruntime  # noqa: F401, PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "deploy") from None


def write_onnx(path: Path, bundle: Bundle, events: Iterable[Mapping[str, PackedStream]]) -> float:
    """Write a network as ONNX, once it is found to score events as the network itself does.

    Inputs are named as the streams: float32, (events, tokens, columns), padded as an npz; of any number
    of events, and of tokens in each stream. Real tokens are found, and trimmed to `max_tokens`, inside;
    events are sorted by length there and scored some at a time, so that padding costs little.
    The output `probabilities` is (events, classes). The metadata hold the version (`manyscale`) and,
    as JSON, `classes`, `labels`, `streams` (columns with units, in order, and `max_tokens`), `features`.

    Parameters
    ----------
    path
        Checked by `check_onnx_target`; an existing file is replaced whole, at the end.
    bundle
        The network, on a CPU.
    events
        Packed streams by name, columns as the network takes them, to compare scores on; some events
        each time, of different numbers and lengths.

    Returns
    -------
    The largest difference of a probability.

    Raises
    ------
    RunError
        Where probabilities differ by more than 1e-4. No file is written then.
    """
    import onnxruntime  # noqa: PLC0415 - an extra

    model = _exported(bundle).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    largest = 0.0
    for streams in events:
        arrays = {of.name: padded_array(of, streams[of.name]) for of in bundle.streams}
        (found,) = session.run([OUTPUT], arrays)
        difference = np.abs(found - class_probabilities(bundle.network, streams))
        # A NaN counts as a difference.
        largest = max(largest, float(np.nan_to_num(difference, nan=1.0).max(initial=0)))
    if largest > _MOST:
        raise RunError(
            f"the ONNX model gives other probabilities than the network, by up to {largest:.2g}: it is "
            f"not written. Where tokens have pt 0, or all columns 0, an array cannot hold them"
        )
    write_whole(path, model)
    return largest


def _exported(bundle: Bundle) -> "onnx.ModelProto":
    import onnx  # noqa: PLC0415 - an extra
    from onnxscript import opset18  # noqa: PLC0415

    op: Any = opset18  # its types are those of values, not of a graph

    def number(value: float) -> Any:  # noqa: ANN401
        return op.Constant(value_float=value)

    # How onnxscript would not, or not as fast; the arguments are values of the graph.
    def hypot(x: Any, y: Any) -> Any:  # noqa: ANN401
        return op.Sqrt(op.Add(op.Mul(x, x), op.Mul(y, y)))

    def gelu(x: Any, approximate: str = "none") -> Any:  # noqa: ANN401, ARG001
        # In the order in which onnxruntime takes it for one operation.
        raised = op.Add(op.Erf(op.Div(x, number(2**0.5))), number(1))
        return op.Mul(op.Mul(x, raised), number(0.5))

    def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:  # noqa: ANN401, ARG001
        return op.Add(op.Relu(x), op.Log(op.Add(number(1), op.Exp(op.Neg(op.Abs(x))))))

    def sinh(x: Any) -> Any:  # noqa: ANN401
        square = op.Mul(x, x)
        near = number(1)
        for factor in (1 / 72, 1 / 42, 1 / 20, 1 / 6):
            near = op.Add(op.Mul(op.Mul(square, number(factor)), near), number(1))
        exp = op.Exp(x)
        far = op.Mul(op.Sub(exp, op.Reciprocal(exp)), number(0.5))
        return op.Where(op.Less(square, number(1)), op.Mul(x, near), far)

    def attend(query: Any, key: Any, value: Any, attn_mask: Any) -> Any:  # noqa: ANN401
        query = op.Mul(query, number(query.shape[3] ** -0.5))
        of_keys = attn_mask.shape[2] == 1
        if of_keys:
            # One more component of each key, which saves a pass over all pairs of tokens.
            query = op.Pad(query, op.Constant(value_ints=[0, 0, 0, 0, 0, 0, 0, 1]), 1.0)
            heads = op.Constant(value_ints=[1, int(key.shape[1]), 1, 1])
            column = op.Expand(op.Transpose(attn_mask, perm=[0, 1, 3, 2]), heads)
            key = op.Concat(key, column, axis=3)
        scores = op.MatMul(query, op.Transpose(key, perm=[0, 1, 3, 2]))
        if not of_keys:
            scores = op.Add(scores, attn_mask)
        return op.MatMul(op.Softmax(scores, axis=-1), value)

    names = [of.name for of in bundle.streams]
    sizes = tuple({0: "events", 1: f"tokens_{name}"} for name in names)
    # Any numbers that are not 0 or 1, which torch would take for constants.
    examples = tuple(
        torch.rand(3, 4 + place, len(of.all_columns)) for place, of in enumerate(bundle.streams)
    )
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Scorer(bundle.network).eval(),
                examples,
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=[OUTPUT],
                dynamic_shapes=(sizes,),
                opset_version=18,
                custom_translation_table={
                    torch.ops.aten.gelu.default: gelu,
                    torch.ops.aten.hypot.default: hypot,
                    torch.ops.aten.sinh.default: sinh,
                    torch.ops.aten.softplus.default: softplus,
                    torch.ops.aten.scaled_dot_product_attention.default: attend,
                },
            )
    finally:
        log.setLevel(level)
    assert program is not None  # noqa: S101 - for the type checker
    model = _in_pieces(program.model_proto)
    network = bundle.network
    streams = {
        of.name: {
            "columns": [{"name": name, "unit": _unit(name)} for name in of.all_columns],
            "max_tokens": network.settings.streams[of.name].max_tokens,
        }
        for of in bundle.streams
    }
    about = {
        "classes": CLASSES,
        "labels": list(bundle.labels),
        "streams": streams,
        "features": described_features(network),
    }
    onnx.helper.set_model_props(
        model, {"manyscale": __version__} | {key: json.dumps(of) for key, of in about.items()}
    )
    return model


def _in_pieces(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Let a model score its events some at a time, in pieces of similar length in each stream.

    Events are divided into groups by their length in the longest stream, and sorted by their length in
    all streams within each: by that alone, two jets of a piece would be padded half as much again as
    they hold. Scores stay in the order of the events.
    """
    import onnx  # noqa: PLC0415 - an extra

    node, array = onnx.helper.make_node, onnx.numpy_helper.from_array
    graph = model.graph
    streams = [of.name for of in graph.input]

    # What the model does with a piece, under other names than those of the whole.
    piece = {name: f"{name}/piece" for name in (*streams, OUTPUT)}
    for of in graph.node:
        of.input[:] = [piece.get(name, name) for name in of.input]
        of.output[:] = [piece.get(name, name) for name in of.output]
        del of.metadata_props[:]  # where in our source it comes from, with paths of this machine

    value, types = onnx.helper.make_tensor_value_info, onnx.TensorProto
    body = onnx.helper.make_graph(
        [
            node("Mul", ["turn", "most"], ["first"]),
            node("Add", ["first", "most"], ["last"]),
            node("Slice", ["order", "first", "last"], ["chosen"]),
            *(node("Gather", [name, "chosen"], [piece[name]]) for name in streams),
            *graph.node,
            node("Concat", ["before", piece[OUTPUT]], ["until"], axis=0),
            node("Identity", ["on"], ["on_still"]),
        ],
        "piece",
        [
            value("turn", types.INT64, []),
            value("on", types.BOOL, []),
            value("before", types.FLOAT, [None, len(CLASSES)]),
        ],
        [
            value("on_still", types.BOOL, []),
            value("until", types.FLOAT, [None, len(CLASSES)]),
        ],
        initializer=graph.initializer,
    )
    lengths = []
    for name in streams:
        lengths += [
            node("Abs", [name], [f"{name}/size"]),
            node("ReduceMax", [f"{name}/size", "columns"], [f"{name}/largest"], keepdims=0),
            node("Sign", [f"{name}/largest"], [f"{name}/real"]),
            node("ReduceSum", [f"{name}/real", "tokens"], [f"{name}/length_of_each"], keepdims=0),
            node("Unsqueeze", [f"{name}/length_of_each", "streams"], [f"{name}/length"]),
        ]
    whole = onnx.helper.make_graph(
        [
            *lengths,
            node("Concat", [f"{name}/length" for name in streams], ["stacked"], axis=0),
            node("Cast", ["stacked"], ["lengths"], to=types.INT64),
            node("ReduceSum", ["lengths", "streams"], ["length"], keepdims=0),
            node("ReduceSum", ["lengths", "events_of"], ["tokens_of"], keepdims=0),
            node("ArgMax", ["tokens_of"], ["longest"], keepdims=0),
            node("Gather", ["lengths", "longest"], ["of_longest"]),
            node("Shape", ["length"], ["events"]),
            # As many groups as pieces in each, about.
            node("Div", ["events", "most"], ["pieces"]),
            node("Cast", ["pieces"], ["pieces_float"], to=types.FLOAT),
            node("Sqrt", ["pieces_float"], ["root"]),
            node("Cast", ["root"], ["groups"], to=types.INT64),
            node("TopK", ["of_longest", "events"], ["sorted_longest", "by_longest"], largest=0),
            node("TopK", ["by_longest", "events"], ["sorted_by_longest", "rank"], largest=0),
            node("Mul", ["rank", "groups"], ["rank_groups"]),
            node("Div", ["rank_groups", "events"], ["group"]),
            node("Mul", ["group", "more_than_any_length"], ["group_first"]),
            node("Add", ["group_first", "length"], ["key"]),
            node("TopK", ["key", "events"], ["sorted", "order"], largest=0),
            node("Add", ["events", "most_but_one"], ["rounded_up"]),
            node("Div", ["rounded_up", "most"], ["turns_of_one"]),
            node("Squeeze", ["turns_of_one"], ["turns"]),
            node("Loop", ["turns", "true", "none"], ["found"], body=body),
            node("TopK", ["order", "events"], ["again", "place"], largest=0),
            node("Gather", ["found", "place"], [OUTPUT]),
        ],
        graph.name,
        graph.input,
        graph.output,
        initializer=[
            array(np.array([2]), "columns"),
            array(np.array([1]), "tokens"),
            array(np.array([0]), "streams"),
            array(np.array([1]), "events_of"),
            array(np.array([1 << 32]), "more_than_any_length"),
            array(np.array([_PIECE]), "most"),
            array(np.array([_PIECE - 1]), "most_but_one"),
            array(np.array(True), "true"),
            array(np.zeros((0, len(CLASSES)), np.float32), "none"),
        ],
    )
    return onnx.helper.make_model(
        whole, opset_imports=model.opset_import, ir_version=model.ir_version
    )


def _unit(column: str) -> str:
    return COLUMNS[column].unit if column in COLUMNS else ""
