#!/usr/bin/env python3
"""Writes the torch checkpoints beside this file, and expected.json: what torch reads from them.

    python3 make_samples.py        (with torch 2.15.0, of which the committed files are; others differ in a few bytes)

expected.json: {file: {tensor: {"dtype", "shape", "bytes"}}}, the bytes row-major in hexadecimal; or {file: another file
that holds the same}. Tensors are named by the keys and places that lead to them, joined by '.'.
"""
import collections
import io
import json
import pathlib
import zipfile

import torch

folder = pathlib.Path(__file__).parent
names = {
    torch.float64: "f64",
    torch.float32: "f32",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.uint8: "u8",
}


def dtypes():
    """Every number type with its extremes, no numbers, no dimensions; an OrderedDict, as state_dict() returns it."""
    inf, nan = float("inf"), float("nan")
    real = [0.0, -0.0, 1.0, -2.5, 1e-40, 3e38, 65504.0, inf, -inf, nan]
    state = collections.OrderedDict()
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        state[names[dtype].lower()] = torch.tensor(real, dtype=torch.float64).to(dtype).reshape(2, 5)
    for dtype in (torch.int64, torch.int32, torch.uint8):
        limits = torch.iinfo(dtype)
        state[names[dtype].lower()] = torch.tensor([limits.min, 0, 1, limits.max], dtype=dtype)
    state["scalar"] = torch.tensor(42.5)
    state["none"] = torch.zeros(3, 0, 2, dtype=torch.bfloat16)
    return state


def views():
    """Storages that are shared, and pieces of them in any order."""
    f32 = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)
    bf16 = torch.arange(24, dtype=torch.float32).reshape(4, 6).to(torch.bfloat16)
    i64 = torch.arange(10)
    return {
        "whole": f32,
        "again": f32,
        "part": f32[1],
        "transposed": f32.transpose(0, 2),
        "permuted": f32.permute(2, 0, 1),
        "sliced": f32[1:, ::2, 1:4],
        "last": f32[2, 3, 4],
        "column": f32[:, 1, 2],
        "nothing": f32[1:1],
        "bf16.transposed": bf16.t(),
        "bf16.slice": bf16[1:3, 2:5],
        "bf16.diagonal": bf16.diagonal(),
        "bf16.one_column": bf16[:, 3:4],
        "expanded": torch.tensor([1.5, 2.5]).reshape(2, 1).expand(2, 3),
        "constant": torch.tensor(7, dtype=torch.uint8).expand(2, 2, 2),
        "windows": i64.unfold(0, 4, 2),
        "size_one": i64[3:4].reshape(1, 1, 1).expand(1, 1, 1),
        "parameter": torch.nn.Parameter(f32[0].t()),
    }


def nested():
    """Dicts in dicts, lists, what is no tensor, and what a module says about itself."""
    torch.manual_seed(1)
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.LayerNorm(3)).to(torch.float16)
    marked = torch.nn.Parameter(torch.ones(2))
    marked.note = "an attribute"
    return {
        "model": module.state_dict(),  # an OrderedDict with attributes
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2, 2)}, 17: {"step": torch.tensor(4.0)}},
            "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1, 2], "fused": None}],
        },
        "list": [torch.tensor([1, 2]), "text", (torch.tensor([3]), 4)],
        "parameter": torch.nn.Parameter(torch.arange(3.0)),
        "marked": marked,
        "epoch": 12,
        "large": 2**80,
        "negative": -(2**40),
        "done": True,
        "loss": 0.25,
        "bytes": b"\x00\xff",
        "size": torch.Size([1, 2]),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "set": {1, 2},
        "storage": torch.ones(3).untyped_storage(),
        (1, 2): "a key that is no text, of what is no tensor",
        "nothing": None,
        "empty": {},
    }


def with_zip64(data):
    """The same archive, its members announced by zip64 fields, as for more than 4 GiB."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as target:
        for info in source.infolist():
            with target.open(zipfile.ZipInfo(info.filename), "w", force_zip64=True) as member:
                member.write(source.read(info))
    return out.getvalue()


def saved(value, **options):
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def tensors_in(value, name=""):
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors_in(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from tensors_in(item, f"{name}.{place}" if name else str(place))


def description(tensor):
    tensor = tensor.detach().contiguous()
    numbers = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "bytes": numbers.hex()}


def main():
    files = {
        "dtypes.pth": saved(dtypes()),
        "views.pth": saved(views()),
        "nested.pth": saved(nested()),
        "nested_protocol5.pth": saved(nested(), pickle_protocol=5),
        "views_zip64.pth": with_zip64(saved(views())),
        "bare.pth": saved(torch.arange(3.0)),
    }
    expected = {}
    for name, data in files.items():
        (folder / name).write_bytes(data)
        value = torch.load(io.BytesIO(data), weights_only=False)
        found = {key: description(tensor) for key, tensor in tensors_in(value)}
        expected[name] = next((other for other, known in expected.items() if known == found), found)
    with open(folder / "expected.json", "w") as out:
        json.dump(expected, out, separators=(",", ":"))
        out.write("\n")

    # Refused.
    (folder / "before_1_6.pth").write_bytes(saved({"x": torch.ones(1)}, _use_new_zipfile_serialization=False))
    (folder / "bool.pth").write_bytes(saved({"mask": torch.ones(2, dtype=torch.bool)}))
    (folder / "negated.pth").write_bytes(saved({"x": torch.ones(2, dtype=torch.complex64).conj().imag}))


if __name__ == "__main__":
    main()
