"""Files of Keras weights: ``.keras``, ``.weights.h5`` and the older ``.h5``, as a list of layers with their arrays.

Keras 3 writes a tree of groups: a layer's arrays are ``vars/0``, ``vars/1``, ... in a group that is called after its class
(``conv2d_1``), and lately ``vars`` carries the layer's name. A ``.keras`` file is a ZIP file with such a tree and, in
``config.json``, the names and arguments of all layers. The older ``.h5`` has a group for each layer, with a list of its arrays'
names. Arrays are read when they are asked for, so that one of the wrong shape never is.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fastconv.arguments import file_path
from fastconv.weights.match import WeightsError

#: Parts of the tree that are not layers.
NO_LAYERS = ("vars", "optimizer", "seed_generator", "_metrics", "metrics")

_WEIGHTS = "model.weights.h5"
_MOST_LEVELS = 50


class KerasLayer(NamedTuple):
    """A layer in a file: its path of names, its class in snake case ("" if unknown), its arrays, and its arguments if known.

    `arrays` are the datasets of the file by name, or by number, ``"0"``, where the file has no names.
    """

    path: str
    kind: str
    arrays: dict[str, Any]
    config: Mapping[str, Any] | None = None


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[list[KerasLayer]]:
    """Yield the layers with arrays in a file, those of one class in the order of the model.

    Raises `WeightsError` where there are none, `ImportError` without h5py, and `OSError` where there is no file.
    """
    h5py = _h5py(path)
    with ExitStack() as stack:
        file: Any = stack.enter_context(open(path, "rb"))
        try:
            config = None
            if Path(path).suffix.lower() == ".keras":
                archive = stack.enter_context(zipfile.ZipFile(file))
                config = json.loads(archive.read("config.json"))
                file = stack.enter_context(archive.open(_WEIGHTS))
            tree = stack.enter_context(h5py.File(file, "r"))
            layers = list(_legacy(h5py, tree) if _is_legacy(tree) else _tree(h5py, tree, config))
        except WeightsError as error:
            raise WeightsError(f"{os.fspath(path)}: {error}") from None
        except Exception as error:  # a damaged file makes the libraries raise anything
            raise WeightsError(f"{os.fspath(path)} is not a complete file of Keras weights: {error}") from error
        if not layers:
            raise WeightsError(f"{os.fspath(path)} holds no layers with weights in a structure of Keras")
        try:
            yield layers
        except OSError as error:  # while an array is read
            raise WeightsError(f"{os.fspath(path)} is damaged: {error}") from error


def _h5py(path: str | os.PathLike[str]) -> Any:
    if Path(file_path(path)).suffix.lower() not in (".keras", ".h5", ".hdf5"):
        raise WeightsError(f"{os.fspath(path)}: a file of Keras weights ends in .keras, .weights.h5, .h5 or .hdf5")
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            f"{os.fspath(path)}: reading Keras weights needs h5py, which is not installed: pip install 'fastconv[keras]'"
        ) from error
    return h5py


def _child(h5py: Any, group: Any, key: str, kind: str) -> Any:
    """Return what a group holds under `key`; refuse what lies in other files, and what is not a `kind`."""
    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise WeightsError(f"{group.name}/{key} is a link to elsewhere, which is not followed")
    found = group[key]
    if not isinstance(found, getattr(h5py, kind)):
        raise WeightsError(f"{group.name}/{key} must be a {kind.lower()}")
    if kind == "Dataset" and (found.external or found.is_virtual):
        raise WeightsError(f"{group.name}/{key} has its numbers in another file, which is not read")
    return found


def _tree(h5py: Any, tree: Any, config: Any) -> Iterator[KerasLayer]:
    """Yield the layers of a tree of Keras 3, with the names and arguments of the `config` of the model where there is one."""
    root = config.get("config") if isinstance(config, dict) else None
    yield from _group(h5py, tree, "", "", root if isinstance(root, dict) else None, 0)


def _group(
    h5py: Any, group: Any, path: str, kind: str, config: Mapping[str, Any] | None, level: int
) -> Iterator[KerasLayer]:
    if level > _MOST_LEVELS:
        raise WeightsError(f"{group.name} lies too deep")
    if "vars" in group:
        variables = _child(h5py, group, "vars", "Group")
        arrays = {key: _child(h5py, variables, key, "Dataset") for key in sorted(variables, key=_numbered)}
        if arrays:
            yield KerasLayer(path, kind, arrays, config)
    known = _members(config)
    for key in sorted(set(group) - set(NO_LAYERS), key=_numbered):
        if isinstance(group.get(key, getclass=True), type) and group.get(key, getclass=True) is h5py.Dataset:
            continue
        child = _child(h5py, group, key, "Group")
        if key == "layers":  # a container: its members are called after their classes
            for member in sorted(child, key=_numbered):
                inner = _child(h5py, child, member, "Group")
                name, arguments = known.get(member, (_name(h5py, inner) or member, None))
                yield from _group(h5py, inner, _joined(path, name), _unnumbered(member), arguments, level + 1)
        else:  # an attribute of a model that is a class of its own
            yield from _group(h5py, child, _joined(path, key), "", None, level + 1)


def _members(config: Mapping[str, Any] | None) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return the name and the arguments of each layer in a model's config, by what its group is called."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    counts: dict[str, int] = {}
    layers = config.get("layers") if config else None
    for layer in layers if isinstance(layers, list) else []:
        kind, arguments = snake_case(str(layer["class_name"])), layer["config"]
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        found[f"{kind}_{number}" if number else kind] = (str(arguments.get("name", kind)), arguments)
    return found


def _name(h5py: Any, group: Any) -> str:
    """Return the name that a layer's group carries since Keras 3.10, "" where there is none."""
    return str(_child(h5py, group, "vars", "Group").attrs.get("name", "")) if "vars" in group else ""


def _is_legacy(tree: Any) -> bool:
    return "model_weights" in tree or any(key in tree.attrs for key in ("layer_names", "layer_names0"))


def _legacy(h5py: Any, tree: Any) -> Iterator[KerasLayer]:
    """Yield the layers of an older file; a model inside the model is one group, whose arrays have the names of its layers."""
    group = _child(h5py, tree, "model_weights", "Group") if "model_weights" in tree else tree
    text = tree.attrs.get("model_config", "{}")
    config = json.loads(text).get("config")
    configs = _by_path(config if isinstance(config, dict) else {}, "")
    for name in _listed(group, "layer_names"):
        inner = _child(h5py, group, name, "Group")
        weights = _listed(inner, "weight_names")
        scopes = {weight.rpartition("/")[0] for weight in weights}
        layers: dict[str, dict[str, Any]] = {}
        for weight in weights:
            scope, _, variable = weight.rpartition("/")
            within = scope.removeprefix(name).lstrip("/") if len(scopes) > 1 or scope.startswith(f"{name}/") else ""
            dataset = inner
            *groups, last = weight.split("/")
            for key in groups:
                dataset = _child(h5py, dataset, key, "Group")
            layers.setdefault(_joined(name, within), {})[variable.partition(":")[0]] = _child(
                h5py, dataset, last, "Dataset"
            )
        for path, arrays in layers.items():
            kind, arguments = configs.get(path, ("", None))
            yield KerasLayer(path, kind, arrays, arguments)


def _by_path(config: Mapping[str, Any], path: str) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Return the class, in snake case, and the arguments of each layer in a model's config, by its path of names."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    layers = config.get("layers")
    for layer in layers if isinstance(layers, list) else []:
        arguments = layer["config"]
        if isinstance(arguments, dict):
            inner = _joined(path, str(arguments.get("name", layer.get("name", ""))))
            found[inner] = (snake_case(str(layer["class_name"])), arguments)
            found.update(_by_path(arguments, inner))
    return found


def _listed(group: Any, key: str) -> list[str]:
    """Return an attribute that is a list of names; a long one is cut into ``key0``, ``key1``, ..."""
    if key in group.attrs:
        parts = [group.attrs[key]]
    else:
        parts = [group.attrs[f"{key}{at}"] for at in range(sum(name.startswith(key) for name in group.attrs))]
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in part]


def snake_case(name: str) -> str:
    """Return a class's name as the groups of Keras 3 have it.

    >>> snake_case("Conv2DTranspose"), snake_case("PReLU"), snake_case("BatchNormalization")
    ('conv2d_transpose', 'p_re_lu', 'batch_normalization')
    """
    apart = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", apart).lower()


def _unnumbered(key: str) -> str:
    return re.sub(r"_\d+$", "", key)


def _numbered(key: str) -> tuple[str, int]:
    """Sort ``conv2d``, ``conv2d_1``, ``conv2d_10`` and ``0``, ``1``, ``10`` as numbers."""
    match = re.fullmatch(r"(.*?)_?(\d+)", key)
    return (match[1], int(match[2])) if match and (match[1] == "" or key.endswith(f"_{match[2]}")) else (key, 0)


def _joined(path: str, name: str) -> str:
    return "/".join(filter(None, (path, name)))
