"""Convolutional neural networks on the CPU: fast kernels, layers that anybody can add to, training, and a command line.

>>> import numpy as np
>>> import fastconv
>>> model = fastconv.Sequential([fastconv.layers.Conv2d(8, 3), fastconv.layers.GlobalAvgPool()])
>>> model(np.zeros((2, 28, 28, 1), np.float32)).shape
(2, 8)

Importing fastconv loads nothing else: every name is imported when it is first asked for, and the kernels with the first that
computes. So the command line can say in one line that ``FASTCONV_ISA`` asks for what this machine lacks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastconv.version import __version__

if TYPE_CHECKING:
    from fastconv import (
        data,
        frozen,
        functional,
        geometry,
        layers,
        networks,
        onnx,
        plugins,
        reference,
        testing,
        training,
        weights,
    )
    from fastconv.accuracy import precision
    from fastconv.config import get_include, show_config
    from fastconv.frozen import FrozenModel, freeze, load_frozen
    from fastconv.functional.explain import explain_conv
    from fastconv.model import Input, Model
    from fastconv.onnx import from_torch
    from fastconv.saving import load_model
    from fastconv.sequential import Sequential
    from fastconv.threads import get_num_threads, num_threads, set_num_threads
    from fastconv.training import SGD, Adam, AdamW, RMSprop
    from fastconv.weights import load_keras_weights, load_torch_weights, torch_state_dict

#: Public name -> the module that has it, imported when the name is first asked for.
_HOMES = {
    "Adam": "training",
    "AdamW": "training",
    "FrozenModel": "frozen",
    "Input": "model",
    "Model": "model",
    "RMSprop": "training",
    "SGD": "training",
    "Sequential": "sequential",
    "explain_conv": "functional.explain",
    "freeze": "frozen",
    "from_torch": "onnx",
    "get_include": "config",
    "get_num_threads": "threads",
    "load_frozen": "frozen",
    "load_keras_weights": "weights",
    "load_model": "saving",
    "load_torch_weights": "weights",
    "num_threads": "threads",
    "precision": "accuracy",
    "set_num_threads": "threads",
    "show_config": "config",
    "torch_state_dict": "weights",
}

_MODULES = (
    "data",
    "frozen",
    "functional",
    "geometry",
    "layers",
    "networks",
    "onnx",
    "plugins",
    "reference",
    "testing",
    "training",
    "weights",
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "FrozenModel",
    "Input",
    "Model",
    "RMSprop",
    "Sequential",
    "__version__",
    "data",
    "explain_conv",
    "freeze",
    "from_torch",
    "frozen",
    "functional",
    "geometry",
    "get_include",
    "get_num_threads",
    "layers",
    "load_frozen",
    "load_keras_weights",
    "load_model",
    "load_torch_weights",
    "networks",
    "num_threads",
    "onnx",
    "plugins",
    "precision",
    "reference",
    "set_num_threads",
    "show_config",
    "testing",
    "torch_state_dict",
    "training",
    "weights",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"fastconv.{name}")
    if name in _HOMES:
        value = getattr(import_module(f"fastconv.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'fastconv' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
