"""How a run trains: its options by name, and the optimizer and the augmentations that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastconv.cli.datasets import Data
    from fastconv.training import Optimizer

#: The options that decide what comes out, with their defaults: saved with the run, and read again by --resume.
DEFAULTS: dict[str, Any] = {
    "data": None,
    "image_size": None,
    "gray": False,
    "model": "cnn-small",
    "epochs": 10,
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": None,
    "schedule": "one-cycle",
    "augment": [],
    "seed": 0,
}

#: Optimizers, and for each the highest learning rate that suits the built-in networks.
LEARNING_RATES = {"adam": 4e-3, "adamw": 4e-3, "rmsprop": 1e-3, "sgd": 5e-2}

SCHEDULES = ("one-cycle", "cosine", "constant")

AUGMENTATIONS = ("flip", "shift", "rotate", "erase", "mixup")


def make_optimizer(recipe: dict[str, Any]) -> Optimizer:
    """Return the optimizer of a recipe, with its schedule; SGD has Nesterov's momentum.

    Raises `ValueError` where there is no such optimizer, and for a plugin's without a learning rate.
    """
    from fastconv import training
    from fastconv.training.names import find, optimizers

    name = recipe["optimizer"]
    kind = find(optimizers, name)
    if recipe["learning_rate"] is None and name not in LEARNING_RATES:
        raise ValueError(f"--optimizer {name} needs a --learning-rate: only the built-in ones have a rate of their own")
    peak = recipe["learning_rate"] or LEARNING_RATES[name]
    rate = {
        "one-cycle": lambda: training.OneCycle(peak),
        "cosine": lambda: training.Cosine(peak, warmup=min(1.0, recipe["epochs"] / 10)),
        "constant": lambda: peak,
    }[recipe["schedule"]]()
    options = {"momentum": 0.9, "nesterov": True} if kind is training.SGD else {}
    made: Optimizer = kind(rate, **options)
    return made


def make_augmentations(names: Sequence[str], data: Data) -> list[Any]:
    """Return the augmentations called `names`, mild ones that suit the size of the images.

    Images are flipped left to right; shifted by up to a twelfth of their shorter side; turned by up to 10 degrees; one in two
    loses a random rectangle; and blended with another image and its label.
    """
    from fastconv import data as d

    height, width, _ = data.input_shape
    made = {
        "flip": lambda: d.Flip(),
        "shift": lambda: d.Shift(max(1, round(min(height, width) / 12))),
        "rotate": lambda: d.Rotate(10.0),
        "erase": lambda: d.Erase(),
        "mixup": lambda: d.Mixup(classes=len(data.classes)),
    }
    return [made[name]() for name in names]
