"""PyTorch weight files: safetensors, and what ``torch.save`` writes, through PyTorch's weights-only reader."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastconv.arguments import file_path
from fastconv.weights.match import WeightsError

#: The endings of what ``torch.save`` writes.
PICKLED = (".pth", ".pt", ".bin", ".ckpt")

_DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64, "BF16": np.uint16}
_INTEGERS = {
    "BOOL": np.bool_,
    **{f"{sign}{bits}": f"{sign.lower()}{bits // 8}" for sign in "IU" for bits in (8, 16, 32, 64)},
}


def read(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Return what a file holds, names to arrays or tensors; raise `WeightsError` for one that is none of weights."""
    suffix = Path(file_path(path)).suffix.lower()
    if suffix == ".safetensors":
        return _read_safetensors(path)
    if suffix in PICKLED:
        return _read_pickled(path)
    raise WeightsError(
        f"{os.fspath(path)}: a file of PyTorch weights ends in .safetensors, {', '.join(PICKLED[:-1])} or {PICKLED[-1]}"
    )


def _read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, deserialize

    content = Path(path).read_bytes()
    try:
        entries = deserialize(content)
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{os.fspath(path)} is not a complete safetensors file: {error}") from error
    return {name: _tensor(os.fspath(path), name, entry) for name, entry in entries}


def _tensor(path: str, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    """Return one array; bfloat16, which NumPy does not have, is the upper half of a float32."""
    kind: Any = _DTYPES.get(entry["dtype"]) or _INTEGERS.get(entry["dtype"])
    if kind is None:
        raise WeightsError(f"{path}: the array {name!r} is {entry['dtype']}, which cannot be read")
    array = np.frombuffer(entry["data"], np.dtype(kind).newbyteorder("<")).reshape(entry["shape"])
    return (array.astype(np.uint32) << 16).view(np.float32) if entry["dtype"] == "BF16" else array


def _read_pickled(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            f"{os.fspath(path)}: reading what torch.save wrote needs PyTorch: pip install 'fastconv[torch]'; or write a "
            ".safetensors file where PyTorch is, with safetensors.torch.save_file(module.state_dict(), path)"
        ) from error
    with open(path, "rb") as file:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # what a damaged or hostile file makes the reader raise is anything
            said = str(error).strip().partition("\n")[0]
            raise WeightsError(
                f"{os.fspath(path)} cannot be read safely: it is damaged, or holds more than weights; PyTorch says: {said}"
            ) from error
    return _state_dict(os.fspath(path), found)


def _state_dict(path: str, found: Any) -> Mapping[str, Any]:
    """Return a file's content where it is a state dict; say where the state dict is, where it is inside something else."""
    if not isinstance(found, Mapping):
        raise WeightsError(f"{path} holds a {type(found).__name__}, not a state dict: a mapping of names to tensors")
    inside = [key for key, value in found.items() if isinstance(value, Mapping) and value]
    if inside:
        keys = ", ".join(map(repr, list(found)[:10]))
        raise WeightsError(
            f"{path} holds a checkpoint with {keys}: pass the state dict in it, as in "
            f"torch.load({path!r}, map_location='cpu', weights_only=True)[{inside[0]!r}]"
        )
    return found


def numpy_array(name: str, value: Any) -> np.ndarray:
    """Return an array or a tensor as an array, half precision of any kind widened; `WeightsError` for what is neither."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            if str(value.dtype) == "torch.bfloat16":
                value = value.float()
        array = np.asarray(value)
    except Exception as error:  # a tensor on a device that has no numbers, a sparse one
        raise WeightsError(f"the entry {name!r} cannot be read as an array: {error}") from error
    if array.dtype == object or array.dtype.kind in "US":
        raise WeightsError(f"the entry {name!r} must be an array or a tensor, got {type(value).__name__}")
    return array
