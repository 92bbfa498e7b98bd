"""Model files: safetensors, with the layers as JSON in the metadata.

A file holds arrays by name and one JSON text, so reading it runs no code but the constructors of registered layers. Every file
is written beside the old one and put in its place in one step: whatever happens in between, the old file stays whole.
For layers of other packages the text says which package, and which version of it, they come from.

============================  ==================================================================
array                         what it is
============================  ==================================================================
``conv2d_1/weight``           parameters and buffers, named as in ``model.params`` and ``model.buffers``
``@optimizer/...``            arrays of the optimizer's state, where it was asked for
``@extra/...``                arrays among `extra`
============================  ==================================================================
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import numpy as np

from fastconv.arguments import file_path
from fastconv.layers.config import from_spec, to_spec
from fastconv.loading import describe
from fastconv.model import Model
from fastconv.provenance import advice, provenance

#: Version of the file format; a file of another one is refused by name.
FORMAT_VERSION = 1

_KEY = "fastconv"
_DTYPES = (
    "float32",
    "float64",
    "float16",
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
)
_MOST_HEADER = 100_000_000  # bytes, as in the safetensors library


class ModelFileError(ValueError):
    """A file that is not a model file, is truncated, or does not fit the layers at hand; the message says which and why."""


class Checkpoint(NamedTuple):
    """What `load_checkpoint` finds: the model, the state of the optimizer (or None), and what was saved as `extra`."""

    model: Model
    optimizer: dict[str, Any] | None
    extra: dict[str, Any]


def save_model(
    model: Model, path: str | os.PathLike[str], *, optimizer: Any = None, extra: dict[str, Any] | None = None
) -> None:
    """Write a model, and what training needs to go on, to a file.

    Parameters
    ----------
    model : Model
        Built, and made of registered layers.
    path : str or path
    optimizer : object with ``state_dict()``, or such a dict, optional
        Saved as well, for ``load_model(path, with_optimizer=True)``.
    extra : dict, optional
        Arrays and JSON values, in dicts and lists, for `load_checkpoint`.

    Raises
    ------
    ValueError
        For a model that is not built or holds a layer that is not registered.
    TypeError
        For what is neither an array nor a JSON value.
    OSError
        Where the file cannot be written; a file that was there stays as it was.
    """
    if not isinstance(model, Model):
        raise TypeError(f"only a model can be saved, got {model!r:.200}: put a layer into a Sequential")
    params, buffers = model.params, model.buffers
    if not model.built:
        raise ValueError("the model is not built yet, so there is nothing to save: call it, or build((28, 28, 1))")
    both = sorted(set(params) & set(buffers))
    if both:
        raise ValueError(f"{both[0]!r} is a parameter and a buffer: give one of them another name")
    tensors = {**params, **buffers}
    state = optimizer.state_dict() if hasattr(optimizer, "state_dict") else optimizer
    spec = to_spec(model)
    origins = provenance(spec)
    metadata = {
        "model": spec,
        **({"plugins": origins} if origins else {}),
        "input_shapes": [list(shape) for shape in model.input_shapes],
        "dtype": str(model.dtype),
        "rng": model.rng_state,
        "optimizer": _without_arrays(state, "@optimizer", tensors),
        "extra": _without_arrays(extra or {}, "@extra", tensors),
    }
    save(path, tensors, metadata)


def load_model(path: str | os.PathLike[str], *, with_optimizer: bool = False, allow_plugins: bool = True) -> Any:
    """Return the model in a file, equal to the one that was saved to the last bit: arrays, dtype and names.

    Parameters
    ----------
    path : str or path
    with_optimizer : bool
        Return ``(model, state)``, the state for ``optimizer.load_state_dict``.
    allow_plugins : bool
        False accepts only fastconv's layers and those that the program itself has registered. Then the file can run no
        code that the program has not chosen.

    Raises
    ------
    ModelFileError
        For a file that is truncated, not a model file or of another version; for an unknown layer (the message says which
        package had it), one of a package that is broken or not allowed, one that refuses its arguments; for arrays that are
        missing, of another shape or dtype, or too many.
    OSError
        Where the file cannot be read.

    Examples
    --------
    >>> import numpy as np, tempfile, os
    >>> from fastconv.layers import Linear
    >>> from fastconv.sequential import Sequential
    >>> model, x = Sequential([Linear(3)], input_shape=(2,)), np.ones((1, 2), np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(os.path.join(folder, "model.safetensors"))
    ...     again = load_model(os.path.join(folder, "model.safetensors"))
    >>> bool((again(x) == model(x)).all())
    True
    """
    checkpoint = load_checkpoint(path, allow_plugins=allow_plugins)
    if not with_optimizer:
        return checkpoint.model
    if checkpoint.optimizer is None:
        raise ModelFileError(f"{os.fspath(path)}: no optimizer state was saved with this model")
    return checkpoint.model, checkpoint.optimizer


def load_checkpoint(path: str | os.PathLike[str], *, allow_plugins: bool = True) -> Checkpoint:
    """Return everything that `save_model` wrote; raises what `load_model` raises."""
    tensors, metadata = load(path)
    missing = sorted({"model", "input_shapes", "dtype", "rng", "optimizer", "extra"} - set(metadata))
    if "frozen" in metadata:
        raise ModelFileError(f"{os.fspath(path)}: holds a frozen model: read it with fastconv.load_frozen")
    if missing:
        raise ModelFileError(f"{os.fspath(path)}: holds no model, because its description lacks {_some(missing)}")
    try:
        model = _restored(tensors, metadata, allow_plugins)
        optimizer, extra = (_with_arrays(metadata[key], tensors) for key in ("optimizer", "extra"))
    except (
        Exception,
        SystemExit,
    ) as error:  # a description by somebody else may make a layer's constructor raise anything
        said = advice(metadata["model"], metadata.get("plugins"))
        what = describe(error) if isinstance(error, SystemExit) else error
        raise ModelFileError(f"{os.fspath(path)}: {what}{said}") from error
    if not isinstance(extra, dict):
        raise ModelFileError(f"{os.fspath(path)}: its extra must be a JSON object, got {extra!r:.80}")
    if tensors:
        raise ModelFileError(f"{os.fspath(path)}: has arrays that the model does not: {_some(tensors)}")
    return Checkpoint(model, optimizer, extra)


def read_description(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the JSON object in a file that `save` wrote, without reading its arrays; raises what `load` raises."""
    with open(file_path(path), "rb") as file:
        start = file.read(8)
        content = start + file.read(min(int.from_bytes(start, "little"), _MOST_HEADER))
    try:
        return _metadata(_header(content))
    except ModelFileError as error:
        raise ModelFileError(f"{os.fspath(path)}: {error}") from error


def read_extra(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the `extra` of a model file without making its model; raises what `load` raises."""
    tensors, metadata = load(path)
    try:
        return dict(_with_arrays(metadata.get("extra", {}), tensors))
    except (TypeError, ValueError) as error:
        raise ModelFileError(f"{os.fspath(path)}: {error}") from error


def _restored(tensors: dict[str, np.ndarray], metadata: dict[str, Any], allow_plugins: bool) -> Model:
    model = from_spec(metadata["model"], allow_plugins=allow_plugins)
    if not isinstance(model, Model):
        raise ModelFileError(f"the outermost layer must be a model, got {model.label}")
    model.astype(metadata["dtype"])
    model.build(*(tuple(shape) for shape in metadata["input_shapes"]))
    model.rng_state = metadata["rng"]
    arrays = {**model.params, **model.buffers}
    missing = [name for name in arrays if name not in tensors]
    if missing:
        raise ModelFileError(f"lacks arrays of the model: {_some(missing)}")
    for name, array in arrays.items():
        found = tensors.pop(name)
        if (found.shape, found.dtype) != (array.shape, array.dtype):
            raise ModelFileError(
                f"the array {name!r} must be {array.dtype} of shape {array.shape}, "
                f"the file has {found.dtype} of shape {found.shape}"
            )
        array[...] = found
    return model


def save(path: str | os.PathLike[str], tensors: dict[str, np.ndarray], metadata: dict[str, Any]) -> None:
    """Write named arrays and a JSON object to a file, at once or not at all; `load` reads it.

    Raises `TypeError` for what is not an array of numbers or not JSON, and `OSError` where the file cannot be written.
    """
    import json

    from safetensors.numpy import save as serialise

    plain = {}
    for name, given in tensors.items():
        tensor = (
            np.asarray(given) if isinstance(given, np.generic) else given
        )  # what arithmetic makes of an array of no axes
        if not isinstance(tensor, np.ndarray) or tensor.dtype.name not in _DTYPES:
            kind = f"an array of {tensor.dtype}" if isinstance(tensor, np.ndarray) else type(tensor).__name__
            raise TypeError(f"the array {name!r} cannot be saved: it must be an array of numbers, got {kind}")
        # the library copies raw memory: row-major, and in this machine's byte order
        plain[name] = np.array(tensor, dtype=tensor.dtype.newbyteorder("="), order="C")
    content = {"version": FORMAT_VERSION, **metadata}
    # one text under one key: the library does not keep the order of several, and equal models shall be equal files
    write_atomically(path, serialise(plain, metadata={_KEY: json.dumps(content, allow_nan=False)}))


def load(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and the JSON object in a file that `save` wrote; `ModelFileError` says what is wrong with another."""
    with open(file_path(path), "rb") as file:
        content = file.read()
    try:
        return _parsed(content)
    except ModelFileError as error:
        raise ModelFileError(f"{os.fspath(path)}: {error}") from error


def _parsed(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialise

    header = _header(content)
    metadata = _metadata(header)
    end = 8 + int.from_bytes(content[:8], "little") + _data_size(header)
    if len(content) < end:
        raise ModelFileError(f"is cut short: it has {len(content)} of {end} bytes")
    try:
        # copies: depending on its version the library returns arrays that cannot be written to
        tensors = {name: np.array(tensor) for name, tensor in deserialise(content).items()}
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise ModelFileError(f"is damaged: {error}") from error
    return tensors, metadata


def _header(content: bytes) -> dict[str, Any]:
    import json

    if not content:
        raise ModelFileError("is empty")
    # a safetensors file begins with the length of its header, eight bytes, and the header, which is a JSON object
    length = int.from_bytes(content[:8], "little")
    if len(content) < 9 or content[8:9] != b"{" or not 2 <= length <= _MOST_HEADER:
        raise ModelFileError("is not a model file: it is not in the safetensors format, or it is truncated")
    if len(content) < 8 + length:
        raise ModelFileError(f"is cut short: it has {len(content)} bytes, and its header alone is {length}")
    try:
        header = json.loads(content[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"is not a model file: its header is not JSON ({error})") from error
    return dict(header)


def _metadata(header: dict[str, Any]) -> dict[str, Any]:
    import json

    texts = header.get("__metadata__")
    if not isinstance(texts, dict) or not isinstance(texts.get(_KEY), str):
        raise ModelFileError("is a safetensors file, but not one that fastconv wrote: its metadata has no 'fastconv'")
    try:
        metadata = json.loads(texts[_KEY])
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"is damaged: its description is no JSON ({error})") from error
    version = metadata.pop("version", None) if isinstance(metadata, dict) else None
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"has format version {version!r}, and this fastconv reads version {FORMAT_VERSION}: "
            f"read it with the fastconv that wrote it, or a newer one"
        )
    return dict(metadata)


def _data_size(header: dict[str, Any]) -> int:
    try:
        return max(
            (int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"), default=0
        )
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise ModelFileError("is damaged: its header does not say where the arrays lie") from error


def _without_arrays(value: Any, path: str, tensors: dict[str, np.ndarray]) -> Any:
    """Return `value` with each array replaced by ``{"@array": its name}``, and put the arrays into `tensors`."""
    if isinstance(value, (np.bool_, np.integer, np.floating)):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return _finite(value, path)
    if isinstance(value, np.ndarray):
        tensors[path] = value
        return {"@array": path}
    if isinstance(value, (list, tuple)):
        return [_without_arrays(item, f"{path}/{at}", tensors) for at, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _without_arrays(item, f"{path}/{key}", tensors) for key, item in value.items()}
    raise TypeError(
        f"{path.lstrip('@')} must be made of arrays and JSON values (in dicts with strings as keys, and lists), "
        f"got {type(value).__name__} {value!r:.200}"
    )


def _finite(value: Any, path: str) -> Any:
    # JSON has no infinity, and a loss that diverged is no reason to lose the checkpoint
    if isinstance(value, float) and not np.isfinite(value):
        return {"@float": repr(value)}
    return value


def _with_arrays(value: Any, tensors: dict[str, np.ndarray]) -> Any:
    """Undo `_without_arrays`, taking the arrays out of `tensors`."""
    if isinstance(value, list):
        return [_with_arrays(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "@float" in value:
        return float(value["@float"])
    if "@array" in value:
        if value["@array"] not in tensors:
            raise ModelFileError(f"lacks an array that its description names: {value['@array']!r}")
        return tensors.pop(value["@array"])
    return {key: _with_arrays(item, tensors) for key, item in value.items()}


def _some(names: Any) -> str:
    listed = sorted(names)
    return ", ".join(map(repr, listed[:3])) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file at once or not at all: into a new file beside it, to the disk, and then into its place.

    An exception leaves the old file (or none) and nothing else. Raises `OSError` where the folder cannot be written to.

    >>> import tempfile, os
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(os.path.join(folder, "note"), b"done")
    ...     os.listdir(folder)
    ['note']
    """
    import secrets

    target = os.path.realpath(file_path(path))  # a link stays a link
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if os.path.exists(target):
            os.chmod(temporary, os.stat(target).st_mode & 0o777)
        os.replace(temporary, target)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        # a disk that is full says so of no file at all
        if isinstance(error, OSError) and error.strerror and error.filename in (None, temporary):
            error.filename = os.fspath(path)  # what the caller knows
            del error.filename2  # None would be a name too
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    # without it a power failure may forget that the file was moved into its place
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
