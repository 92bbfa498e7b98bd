"""Weights from Keras: names and layouts. Keras has its channels last too, so nearly all layouts agree.

==============================  =====================================================================================
layer                           arrays in Keras
==============================  =====================================================================================
convolution, transposed         ``kernel``, ``bias``: as here
`DepthwiseConv2d`               ``kernel`` or ``depthwise_kernel`` ``(H, W, C, multiplier)``, ``bias``
`SeparableConv2d`               ``depthwise_kernel`` ``(H, W, C, multiplier)``, ``pointwise_kernel``, ``bias``
`Linear` (Dense)                ``kernel``, ``bias``: as here
`BatchNorm`                     ``gamma``, ``beta``, ``moving_mean``, ``moving_variance``; without ``gamma`` it is 1
`LayerNorm`, `GroupNorm`        ``gamma``, ``beta``
`PReLU`                         ``alpha`` ``(1, ..., 1, C)``
==============================  =====================================================================================
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.layers.tree import walk
from fastconv.model import Model
from fastconv.weights.keras_files import KerasLayer, opened, snake_case
from fastconv.weights.match import Slot, Unfit, WeightsError, fit

#: What Keras calls a class of ours where snake case alone does not tell.
KINDS = {
    "Linear": "dense",
    "BatchNorm": "batch_normalization",
    "LayerNorm": "layer_normalization",
    "GroupNorm": "group_normalization",
    **{f"ConvTranspose{rank}d": f"conv{rank}d_transpose" for rank in (1, 2, 3)},
}

#: Our names of a layer's arrays by those of Keras, in the order in which Keras numbers them.
_KERNEL = {"kernel": "weight", "bias": "bias"}
_NORM = {"gamma": "scale", "beta": "bias"}
NAMES: list[tuple[type[Layer], dict[str, str]]] = [
    (L.SeparableConv2d, {"depthwise_kernel": "depthwise", "pointwise_kernel": "pointwise", "bias": "bias"}),
    (L.BatchNorm, {**_NORM, "moving_mean": "mean", "moving_variance": "var"}),
    (L.LayerNorm, _NORM),
    (L.GroupNorm, _NORM),
    (L.PReLU, {"alpha": "slope"}),
    *((kind, _KERNEL) for kind in (L.Conv1d, L.Conv2d, L.Conv3d, L.DepthwiseConv2d, L.Linear)),
    *((kind, _KERNEL) for kind in (L.ConvTranspose1d, L.ConvTranspose2d, L.ConvTranspose3d)),
]


def load_keras_weights(
    model: Model, path: str | os.PathLike[str], *, by: Literal["name", "order"] = "name", strict: bool = True
) -> Unfit:
    """Copy the weights in a Keras file into a model of the same architecture; needs ``pip install 'fastconv[keras]'``.

    Parameters
    ----------
    model : Model
        One that is not built yet is built, where it knows its input.
    path : str or path
        A ``.keras`` file, or one of weights: ``.weights.h5``, or the ``.h5`` of Keras 2.
    by : "name" or "order"
        Which layer gets whose weights: those of the Keras layer with its name (in a nested model, with the names of both); or,
        where the model is one chain of layers, those of the first layer of its kind, the second, and so on.
    strict : bool
        False: take the arrays that fit, and leave the rest.

    Returns
    -------
    Unfit
        The names that found no place: `missing`, `unexpected`, `misshaped`.

    Raises
    ------
    WeightsError
        Where `strict` and something is missing, unexpected or of another shape, which the message lists, or the `eps` of a
        normalization is not the file's; where nothing fits; for a file that cannot be read; for `by` "order" and a model that
        branches. The model is as it was.
    ImportError
        Where h5py is not installed.
    OSError
        For a path that is not there.

    Notes
    -----
    Defaults differ: the epsilon of a batch normalization is 1e-3 in Keras and 1e-5 here, its momentum 0.99 and 0.9; make it
    with ``BatchNorm(eps=1e-3, momentum=0.99)``. A file of a whole model says what its epsilon was, and the two are compared.

    See Also
    --------
    fastconv.load_torch_weights : from PyTorch.
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model, got {model!r:.200}: put a layer into a Sequential")
    if by not in ("name", "order"):
        raise ValueError(f'by must be "name" or "order", got {by!r}')
    if not model.built:
        model.build()
    ours = [(path, layer) for path, layer in walk(model) if layer.own("params") or layer.own("buffers")]
    with opened(path) as theirs:
        given: dict[str, Any] = {}
        wanted = dict(ours)
        for found, place in zip(theirs, _places(model, ours, theirs, by), strict=True):
            layer = wanted.get(place)
            if layer is None:
                given.update({f"{found.path}/{key}": array for key, array in found.arrays.items()})
                continue
            if strict:
                _require_alike(layer, found)
            given.update({f"{place}/{key}": array for key, array in _named(layer, found).items()})
        slots = {f"{place}/{name}": slot for place, layer in ours for name, slot in _slots(layer).items()}
        chain = ' or, in the order of use, by="order"' if by == "name" and _is_chain(model) else ""
        return fit(
            slots, given, strict=strict, hint=f"; layers are found by their names{chain}" if by == "name" else ""
        )


def _places(model: Model, ours: Sequence[tuple[str, Layer]], theirs: Sequence[KerasLayer], by: str) -> list[str]:
    """Return for each layer of the file the path of ours that gets its weights, "" where there is none."""
    if by == "name":
        known = {path for path, _ in ours}
        return [found.path if found.path in known else "" for found in theirs]
    if not _is_chain(model):
        raise WeightsError(
            'by="order" is for a model that is one chain of layers: in one that branches, Keras has an order of its own; '
            'give the layers the names that they have in Keras, and load by="name"'
        )
    # a file of Keras 2 that holds weights alone does not say of which class a layer is
    exact = all(found.kind for found in theirs)
    waiting: defaultdict[str, list[str]] = defaultdict(list)
    for path, layer in ours:
        waiting[kind_of(layer) if exact else _family(kind_of(layer))].append(path)
    places = []
    for found in theirs:
        queue = waiting[found.kind if exact else _family(found.kind or _guessed(found))]
        places.append(queue.pop(0) if queue else "")
    return places


def kind_of(layer: Layer) -> str:
    """Return what Keras calls the class of a layer, in snake case.

    >>> kind_of(L.Linear(3)), kind_of(L.DepthwiseConv2d(3))
    ('dense', 'depthwise_conv2d')
    """
    name = type(layer).__name__
    return KINDS.get(name, snake_case(name))


def _family(kind: str) -> str:
    if kind in ("layer_normalization", "group_normalization"):
        return "normalization"
    return "convolution" if kind.startswith("conv") else kind


def _guessed(found: KerasLayer) -> str:
    """Return the class of a layer, as far as its arrays tell."""
    signs = {
        "moving_mean": "batch_normalization",
        "pointwise_kernel": "separable_conv2d",
        "depthwise_kernel": "depthwise_conv2d",
        "gamma": "normalization",
        "beta": "normalization",
        "alpha": "p_re_lu",
    }
    sign = next((kind for name, kind in signs.items() if name in found.arrays), "")
    dense = "kernel" in found.arrays and len(found.arrays["kernel"].shape) == 2
    return sign or ("dense" if dense else "convolution")


def _is_chain(model: Model) -> bool:
    steps = model.graph.steps
    reads = [slot for step in steps for slot in step.reads]
    inner = (step.layer for step in steps if isinstance(step.layer, Model))
    return len(reads) == len(steps) == len(set(reads)) and all(map(_is_chain, inner))


def _names(layer: Layer) -> dict[str, str]:
    """Return our names of a layer's arrays by those of Keras; a layer that Keras does not have keeps its own."""
    own = [*layer.own("params"), *layer.own("buffers")]
    return next((names for kind, names in NAMES if isinstance(layer, kind)), dict(zip(own, own, strict=True)))


def _named(layer: Layer, found: KerasLayer) -> dict[str, Any]:
    """Return the arrays of a layer in the file by their names, with a scale of 1 or a bias of 0 where a norm has none."""
    names = list(_names(layer))
    norm = isinstance(layer, (L.BatchNorm, L.LayerNorm, L.GroupNorm))
    if all(key.isdigit() for key in found.arrays):
        if norm:
            names = _of_norm(layer, found, names)
        unnamed = [key for key in found.arrays if int(key) >= len(names)]
        arrays = dict(zip((*names, *unnamed), found.arrays.values(), strict=False))
    else:
        older = {"depthwise_kernel": "kernel"} if isinstance(layer, L.DepthwiseConv2d) else {}
        arrays = {older.get(key, key): array for key, array in found.arrays.items()}
    if norm:
        channels = layer.params["scale"].shape
        arrays = {"gamma": np.ones(channels, np.float32), "beta": np.zeros(channels, np.float32), **arrays}
    return arrays


def _of_norm(layer: Layer, found: KerasLayer, names: list[str]) -> list[str]:
    """Return which arrays a normalization in the file has: gamma may be missing, and beta."""
    if found.config is not None:
        gone = [name for name, key in (("gamma", "scale"), ("beta", "center")) if not found.config.get(key, True)]
    elif len(found.arrays) == len(names) - 1:
        raise WeightsError(
            f"{found.path!r} in the file lacks gamma or beta, and a file of weights alone does not say which: "
            "save the model as .keras"
        )
    else:
        gone = ["gamma", "beta"] if len(found.arrays) == len(names) - 2 else []
    return [name for name in names if name not in gone]


def _require_alike(layer: Layer, found: KerasLayer) -> None:
    """Raise `WeightsError` where the file says that its layer computes something else than ours."""
    config = found.config or {}
    if config.get("data_format") == "channels_first":
        raise WeightsError(f"{found.path!r} in the file has its channels first: only channels last can be read")
    epsilon = config.get("epsilon")
    if epsilon is not None and not np.isclose(epsilon, getattr(layer, "eps", epsilon), rtol=1e-5, atol=0):
        raise WeightsError(
            f"{found.path!r} in the file has epsilon {epsilon}, and {layer.label} has eps {getattr(layer, 'eps', None)}: "
            f"make it with {type(layer).__name__}(..., eps={epsilon})"
        )


def _slots(layer: Layer) -> dict[str, Slot]:
    arrays = {**layer.own("params"), **layer.own("buffers")}
    return {theirs: _slot(layer, theirs, arrays[key]) for theirs, key in _names(layer).items() if key in arrays}


def _slot(layer: Layer, theirs: str, array: np.ndarray) -> Slot:
    shapes = [array.shape]
    if theirs == "depthwise_kernel" or (theirs == "kernel" and isinstance(layer, L.DepthwiseConv2d)):
        multiplier = int(layer.config["multiplier"])
        shapes = [(*array.shape[:-2], array.shape[-1] // multiplier, multiplier)]
    elif isinstance(layer, L.PReLU):  # shared along the spatial axes
        shapes = [(*(1,) * axes, *array.shape) for axes in range(4)]
    ours = array.shape
    return Slot(array, tuple(shapes), lambda a: a.reshape(ours), lambda a: a.reshape(shapes[0]))
