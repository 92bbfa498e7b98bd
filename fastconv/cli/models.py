"""Models on the command line: where they come from, and what is saved beside their weights."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastconv.cli.runs import model_file

if TYPE_CHECKING:
    from fastconv.model import Model

Shape = tuple[int, ...]

#: The key under which the command line keeps its own facts in a model file.
KEY = "fastconv.cli"


class Classifier(NamedTuple):
    """A network, the names of its classes, and the number that white pixels have when they reach it.

    `named` is whether somebody named the classes; they are numbers else.
    """

    model: Model
    classes: tuple[str, ...]
    white: float = 1.0
    named: bool = True

    @property
    def input_shape(self) -> Shape:
        """The shape of one image, ``(H, W, C)``."""
        (shape,) = self.model.input_shapes or ((),)
        return shape

    def extra(self) -> dict[str, Any]:
        """Return what goes into the model file beside the weights."""
        return {KEY: {"classes": list(self.classes), "white": self.white}}


def load_classifier(path: str) -> Classifier:
    """Return the network in a model file or a run's folder.

    A model that ``fastconv train`` did not write has its outputs numbered. Raises `ValueError` for a model that does not take
    one image and return one vector.
    """
    from fastconv import saving

    file = model_file(path)
    model, _, extra = saving.load_checkpoint(file)
    shapes = model.input_shapes or ()
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise ValueError(
            f"{file} takes inputs of shape {', '.join(map(str, shapes))}, not one image (height, width, channels)"
        )
    shape = model.output_shape(*shapes)
    if len(shape) != 1 or not isinstance(shape[0], int):
        raise ValueError(f"{file} returns {shape}, not one number for each class")
    facts = facts_of(extra, file)
    classes, white = facts or (tuple(map(str, range(shape[0]))), 1.0)
    if len(classes) != shape[0]:
        raise ValueError(f"{file} names {len(classes)} classes, and its network has {shape[0]} outputs")
    return Classifier(model, classes, white, named=facts is not None)


def facts_of(extra: dict[str, Any], file: Path) -> tuple[tuple[str, ...], float] | None:
    """Return the classes and the number of white pixels that ``fastconv train`` wrote into a file; None for one without."""
    if KEY not in extra:
        return None
    facts = extra[KEY]
    try:
        return tuple(map(str, facts["classes"])), float(facts.get("white", 1.0))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} should name its classes under {KEY!r} in its extra, it has {facts!r:.80}") from error


def chosen_model(options: argparse.Namespace) -> Model:
    """Return the model that the command line names: that of a file or folder, or a built-in one, which is not trained."""
    import fastconv
    from fastconv import networks

    if options.model.lower().endswith(".onnx"):
        return fastconv.onnx.load(options.model)
    if options.model.endswith(".json"):
        return read_model_json(Path(options.model), options.input_shape)
    if Path(options.model).exists():
        model: Model = fastconv.load_model(model_file(options.model))
        return model
    try:
        networks.builder(options.model)
    except ValueError as error:
        raise FileNotFoundError(f"{options.model} is not a file, and {error}") from None
    return networks.create(options.model, options.input_shape, options.classes)


def make_model(name: str, input_shape: Shape, classes: int) -> Model:
    """Return an unbuilt network: a built-in one or a plugin's by its name, or that of a JSON file.

    Raises `ValueError` where the file describes no network for these images and this number of classes.
    """
    from fastconv import networks

    if not name.endswith(".json"):
        try:
            networks.builder(name)
        except ValueError as error:
            raise ValueError(f"{error}; or give a file that ends in .json") from None
    json_file = name.endswith(".json")
    model = read_model_json(Path(name), input_shape) if json_file else networks.create(name, input_shape, classes)
    _check_outputs(name, model, input_shape, classes)
    return model


def _check_outputs(name: str, model: Model, input_shape: Shape, classes: int) -> None:
    try:
        shape = model.output_shape(input_shape)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} does not take images of shape {input_shape}: {error}") from error
    if shape != (classes,):
        raise ValueError(
            f"{name} returns {shape} for an image, and the data has {classes} classes: it should return ({classes},)"
        )


def read_model_json(path: Path, input_shape: Shape) -> Model:
    """Return the network that a JSON file describes: a model as ``fastconv summary --json`` prints it, or a list of layers."""
    from fastconv.layers import from_spec
    from fastconv.model import Model

    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if isinstance(spec, list):
        spec = {"layer": "Sequential", "config": {"layers": spec, "input_shape": list(input_shape)}}
    try:
        model = from_spec(spec)
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(model, Model):
        raise ValueError(f"{path} describes a single {type(model).__name__}; a network is a list of layers, or a model")
    return model


def probabilities(model: Model, x: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """Return the class probabilities ``(N, classes)`` of images `x`, the softmax of the network's logits."""
    from fastconv import functional as F

    logits = model.predict(x, batch_size=batch_size)
    result: np.ndarray = F.softmax(logits)
    return result
