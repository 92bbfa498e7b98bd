"""How a run trains: its options by name, and the optimizer and augmentations that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def check_recipe(recipe: dict[str, Any], source: object) -> None:
    """Raise `ValueError`, which names `source`, for options that a command line cannot have said."""
    missing = sorted(set(DEFAULTS) - set(recipe))
    if missing:
        raise ValueError(f"{source} lacks {', '.join(missing)}: it is not from this version of `fastconv train`")
    for name, fits in _FITS.items():
        if not fits(recipe[name]):
            raise ValueError(f"{source}: {name} cannot be {recipe[name]!r:.80}")


def _whole(value: Any, minimum: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= minimum


#: Option -> whether a value from a file can be its.
_FITS: dict[str, Callable[[Any], bool]] = {
    "data": lambda value: value is None or isinstance(value, str),
    "image_size": lambda value: (
        value is None or (isinstance(value, list) and len(value) == 2 and all(map(_whole, value)))
    ),
    "gray": lambda value: isinstance(value, bool),
    "model": lambda value: isinstance(value, str),
    "epochs": _whole,
    "batch_size": _whole,
    "optimizer": lambda value: isinstance(value, str),
    "learning_rate": lambda value: value is None or (isinstance(value, float) and value > 0),
    "schedule": lambda value: value in SCHEDULES,
    "augment": lambda value: isinstance(value, list) and all(each in AUGMENTATIONS for each in value),
    "seed": lambda value: _whole(value, 0),
}


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
