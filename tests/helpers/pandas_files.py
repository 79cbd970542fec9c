"""Frames in HDF5 as pandas' `to_hdf` writes them, without pandas."""

import pickle

import h5py
import numpy as np


def stored(names):
    array = np.array(names)
    return np.char.encode(array) if array.dtype.kind == "U" else array


def write_fixed(path, key, blocks, *, n=None, pickled=()):
    """A frame as pandas' `to_hdf(format="fixed")` writes it: blocks of (names, values (n, names))."""
    with h5py.File(path, "a") as file:
        group = file.create_group(key)
        group.attrs["pandas_type"] = np.bytes_(b"frame")
        group.attrs["nblocks"] = len(blocks)
        names = [name for block in blocks for name in block[0]]
        n = n or len(blocks[0][1])
        group["axis0"], group["axis1"] = stored(names), np.arange(n)
        group["axis0"].attrs["kind"] = np.bytes_(b"string")
        for at, (items, values) in enumerate(blocks):
            group[f"block{at}_items"], group[f"block{at}_values"] = stored(items), values
            group[f"block{at}_values"].attrs["transposed"] = True
        for at, items in enumerate(pickled, len(blocks)):
            group[f"block{at}_items"] = stored(items)
            data = group.create_dataset(f"block{at}_values", (1,), h5py.vlen_dtype(np.uint8))
            data[0] = np.frombuffer(pickle.dumps(np.array(["x"] * n, object)), np.uint8)


def write_table(path, key, blocks, *, pickler=None, **columns):
    """A frame as `to_hdf(format="table")` writes it, with the pickled names beside the rows."""
    n = len(blocks[0][1])
    fields = [("index", "i8"), *((name, x.dtype) for name, x in columns.items())]
    fields += [(f"values_block_{at}", x.dtype, x.shape[1:]) for at, (_, x) in enumerate(blocks)]
    rows = np.zeros(n, fields)
    rows["index"] = np.arange(n)
    for name, values in columns.items():
        rows[name] = values
    with h5py.File(path, "a") as file:
        group = file.create_group(key)
        group.attrs["pandas_type"] = np.bytes_(b"frame_table")
        for at, (_, values) in enumerate(blocks):
            rows[f"values_block_{at}"] = values
        table = group.create_dataset("table", data=rows, chunks=(2,), compression="gzip")
        for name in columns:
            table.attrs[f"{name}_kind"] = np.bytes_(pickle.dumps([name], 0))
        for at, (items, _) in enumerate(blocks):
            stored = pickle.dumps(items, 0) if pickler is None else pickler
            table.attrs[f"values_block_{at}_kind"] = np.bytes_(stored)
        group["_i_table/index/sorted"] = np.zeros((1, 7))
