"""Weights from PyTorch, and back: names and layouts.

=================================  =======================  ==================================================
here                               in a state dict          layout there
=================================  =======================  ==================================================
convolution ``weight``             ``weight``               ``(O, C // groups, *kernel)``
transposed convolution ``weight``  ``weight``               ``(C, O // groups, *kernel)``
linear ``weight``                  ``weight``               ``(out, in)``, after a Flatten channels first
norm ``scale``, ``bias``           ``weight``, ``bias``     the same
batch norm ``mean``, ``var``       ``running_mean``, ...    the same
PReLU ``slope``                    ``weight``               ``(C,)``, or ``(1,)`` for all channels
anything else                      its own name             the same
=================================  =======================  ==================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastconv.layers import BatchNorm, GroupNorm, Layer, LayerNorm, Linear, PReLU, SeparableConv2d
from fastconv.layers.recurrence import Recurrent
from fastconv.layers.tree import walk
from fastconv.layers.windowed import Windowed
from fastconv.model import Model
from fastconv.weights.match import Slot, Unfit, WeightsError, fit
from fastconv.weights.orders import Order, Orders, orders
from fastconv.weights.torch_files import numpy_array, read

_RECURRENT = {"weight": "weight_ih", "recurrent": "weight_hh", "bias": "bias_ih", "recurrent_bias": "bias_hh"}

#: What PyTorch calls a layer's arrays where it has another name.
NAMES: list[tuple[type[Layer], dict[str, str]]] = [
    (BatchNorm, {"scale": "weight", "mean": "running_mean", "var": "running_var"}),
    (LayerNorm, {"scale": "weight"}),
    (GroupNorm, {"scale": "weight"}),
    (PReLU, {"slope": "weight"}),
    (Recurrent, {name + way: f"{theirs}_l0{way}" for name, theirs in _RECURRENT.items() for way in ("", "_reverse")}),
    (SeparableConv2d, {"depthwise": "depthwise.weight", "pointwise": "pointwise.weight", "bias": "pointwise.bias"}),
]

#: What state dicts hold and no layer here needs: batches counted for a momentum that nobody uses.
IDLE = re.compile(r"(^|\.)num_batches_tracked$")

#: Names in the published weights of torchvision's DenseNets, from before a module's name could not have a dot.
OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def load_torch_weights(
    model: Model, weights: Mapping[str, Any] | str | os.PathLike[str], *, strict: bool = True
) -> Unfit:
    """Copy PyTorch's weights into a model whose layers are called as the PyTorch module's are.

    Parameters
    ----------
    model : Model
        A built-in network, or any whose layers have the names: ``layers.Conv2d(8, 3).named("features.0")``, where a layer
        ``"b"`` in a nested model ``"a"`` is ``a.b``. One that is not built yet is built, where it knows its input.
    weights : mapping of names to arrays or tensors, or path
        A state dict, a ``.safetensors`` file, or a ``.pth``, ``.pt`` or ``.bin`` file, which PyTorch's safe reader reads
        (``pip install 'fastconv[torch]'``): no code in it runs. Half precision is widened.
    strict : bool
        False: take the arrays that fit, and leave the rest.

    Returns
    -------
    Unfit
        The names that found no place: `missing`, `unexpected`, `misshaped`.

    Raises
    ------
    WeightsError
        Where `strict` and something is missing, unexpected or of another shape, which the message lists; where nothing fits;
        for a file that cannot be read, or that holds something else. The model is as it was.
    ImportError
        For a ``.pth`` file where torch is not installed.
    TypeError, OSError
        For what is neither a mapping nor a path; for a path that is not there.

    Notes
    -----
    What a state dict does not say is taken from the model: strides, paddings, the `eps` of a batch normalization. Where an
    image is flattened before a linear layer, the rows of its matrix are put into the order of channels last.

    See Also
    --------
    torch_state_dict : the other way. fastconv.load_keras_weights : from Keras.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv.layers import Linear
    >>> from fastconv.sequential import Sequential
    >>> model = Sequential([Linear(2).named("fc")], input_shape=(3,))
    >>> load_torch_weights(model, {"fc.weight": np.ones((2, 3)), "fc.bias": np.zeros(2)})
    Unfit(missing=(), unexpected=(), misshaped=())
    >>> model(np.array([[1.0, 2.0, 3.0]], np.float32))
    array([[6., 6.]], dtype=float32)
    """
    slots = torch_slots(model)
    given = _arrays(weights, slots)
    return fit(slots, given, strict=strict, hint=_hint(slots, given))


def torch_state_dict(model: Model, *, as_numpy: bool = False) -> dict[str, Any]:
    """Return a model's weights as a PyTorch module of the same architecture takes them: ``module.load_state_dict(...)``.

    Parameters
    ----------
    model : Model
        Built, or one that knows its input.
    as_numpy : bool
        True: arrays instead of tensors, for which torch need not be installed; ``safetensors.numpy.save_file`` writes them.

    Returns
    -------
    dict of tensors or arrays
        Copies: what becomes of them does not reach the model.

    Raises
    ------
    ImportError
        Where torch is not installed.

    Examples
    --------
    >>> from fastconv.layers import Conv2d
    >>> from fastconv.sequential import Sequential
    >>> model = Sequential([Conv2d(8, 3).named("conv1")], input_shape=(28, 28, 1))
    >>> {name: array.shape for name, array in torch_state_dict(model, as_numpy=True).items()}
    {'conv1.weight': (8, 1, 3, 3), 'conv1.bias': (8,)}
    """
    arrays = {name: np.array(slot.outward(slot.array), order="C") for name, slot in torch_slots(model).items()}
    if as_numpy:
        return arrays
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "tensors need PyTorch, which is not installed: pip install 'fastconv[torch]', or ask for as_numpy=True"
        ) from error
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def torch_slots(model: Model) -> dict[str, Slot]:
    """Return every array of a model under the name that PyTorch has for it."""
    if not isinstance(model, Model):
        raise TypeError(f"model must be a Model, got {model!r:.200}: put a layer into a Sequential")
    if not model.built:
        model.build()
    turned = orders(model)
    slots: dict[str, Slot] = {}
    for path, layer in walk(model):
        for key, array in (*layer.own("params").items(), *layer.own("buffers").items()):
            name = ".".join(filter(None, (path.replace("/", "."), torch_name(layer, key))))
            if name in slots:
                raise WeightsError(f"two layers of the model are called {name.rpartition('.')[0]!r} in PyTorch's way")
            slots[name] = _slot(layer, key, array, turned.get(id(layer), Orders()))
    return slots


def torch_name(layer: Layer, key: str) -> str:
    """Return what PyTorch calls the array `key` of a layer.

    >>> torch_name(BatchNorm(), "scale"), torch_name(BatchNorm(), "var"), torch_name(Linear(3), "weight")
    ('weight', 'running_var', 'weight')
    """
    return next((names.get(key, key) for kind, names in NAMES if isinstance(layer, kind)), key)


def _slot(layer: Layer, key: str, array: np.ndarray, turned: Orders) -> Slot:
    if isinstance(layer, Windowed) and array.ndim == layer.rank + 2:  # PyTorch has no locally connected ones
        axes = (array.ndim - 1, array.ndim - 2, *range(array.ndim - 2))  # (*kernel, a, b) to (b, a, *kernel)
        back = tuple(int(at) for at in np.argsort(axes))
        shape = tuple(array.shape[axis] for axis in axes)
        return Slot(array, (shape,), lambda a: a.transpose(back), lambda a: a.transpose(axes))
    if isinstance(layer, Linear) and key == "weight":
        return Slot(
            array,
            (array.shape[::-1],),
            lambda a: _reordered(_reordered(a, turned.outward, 0), turned.inward, 1).T,
            lambda a: _restored(_restored(a, turned.inward, 0), turned.outward, 1).T,
        )
    if isinstance(layer, Recurrent) and array.ndim == 2:
        return Slot(array, (array.shape[::-1],), np.transpose, np.transpose)
    order = turned.outward if isinstance(layer, (Linear, BatchNorm, LayerNorm, PReLU)) else None
    slot = Slot(array, (array.shape,), lambda a: _reordered(a, order, 0), lambda a: _restored(a, order, 0))
    if isinstance(layer, PReLU):  # one slope for all channels is PyTorch's default
        return slot._replace(
            shapes=(array.shape, (1,)), inward=lambda a: _reordered(np.broadcast_to(a, array.shape), order, 0)
        )
    return slot


def _reordered(array: np.ndarray, order: Order | None, axis: int) -> np.ndarray:
    return array if order is None else np.take(array, order, axis=axis)


def _restored(array: np.ndarray, order: Order | None, axis: int) -> np.ndarray:
    return array if order is None else np.take(array, np.argsort(order), axis=axis)


def _arrays(weights: Any, slots: Mapping[str, Slot]) -> dict[str, np.ndarray]:
    if isinstance(weights, (str, os.PathLike)):
        weights = read(weights)
    if not isinstance(weights, Mapping):
        hint = ": pass module.state_dict()" if hasattr(weights, "state_dict") else ""
        raise TypeError(f"weights must be a mapping of names to arrays, or a path, got {type(weights).__name__}{hint}")
    found = {}
    for name, value in weights.items():
        if not isinstance(name, str):
            raise WeightsError(f"weights must have names as keys, got {name!r:.80}")
        modern = OLD_NAME.sub(r"\1\2", name)
        key = modern if modern in slots and name not in slots else name
        if key in slots or not IDLE.search(key):
            found[key] = numpy_array(name, value)
    return found


def _hint(slots: Mapping[str, Slot], given: Mapping[str, np.ndarray]) -> str:
    """Return what to do where the names differ by a prefix alone, as of a model that was trained in parallel."""
    first = next(iter(given), "")
    for prefix in ("module.", "_orig_mod.", "model.", "backbone."):
        if first.startswith(prefix) and first not in slots and first.removeprefix(prefix) in slots:
            return (
                f"; the names begin with {prefix!r}: pass {{name.removeprefix({prefix!r}): ... for name, ... in ...}}"
            )
    return ""
