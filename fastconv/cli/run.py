"""``fastconv run``: run a network from any file on an image or on arrays, and print or write what it returns."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastconv.cli.options import image_size, numbers, positive_integer, positive_number, positive_numbers
from fastconv.cli.tables import table

if TYPE_CHECKING:
    from fastconv.cli.pictures import Preparation
    from fastconv.cli.runnable import Port, Runnable

#: Height and width that an image gets in pixels where neither the file nor the user says.
SIDE = 224


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "run",
        help="run an ONNX file or a model on an image or on arrays",
        description="Run a network on an image or on arrays. Class scores are printed as the best classes, other outputs as "
        "their shapes and ranges. Images are converted to grayscale or RGB and resized as the network needs. For a network "
        "with channels first they are preprocessed as is usual for ImageNet: center crop, minus the mean, divided by the "
        "standard deviation; otherwise as in `fastconv train`: the whole image, black 0 and white 1.",
    )
    parser.add_argument(
        "file", metavar="FILE", help="an ONNX file, a model file, the folder of a training run, or a frozen model"
    )
    parser.add_argument(
        "--input",
        action="append",
        required=True,
        metavar="[NAME=]FILE",
        help="an image, or a .npy array of a batch or one sample: floats are used as they are, uint8 as pixels. Repeat for "
        "each input of the network, by name or in order",
    )
    parser.add_argument("--labels", metavar="FILE", help="a text file with the name of a class on each line")
    parser.add_argument("--top", type=positive_integer, default=5, metavar="N", help="classes to print (default: 5)")
    parser.add_argument(
        "--output", metavar="FILE", help="write the output to a .npy file, or all outputs to a .npz file"
    )
    images = parser.add_argument_group("images")
    images.add_argument(
        "--image-size", type=image_size, metavar="HxW", help="size to resize to (default: the network's, or 224)"
    )
    images.add_argument(
        "--crop",
        type=_crop,
        metavar="SHARE",
        help="center crop, as a share of the shorter side up to 1; or none, to stretch the whole image "
        "(default: 0.875 with channels first, otherwise none)",
    )
    images.add_argument(
        "--white",
        type=positive_number,
        metavar="W",
        help="value of white pixels before the mean is subtracted (default: 1)",
    )
    images.add_argument("--mean", type=numbers, metavar="M", help="mean to subtract: one number, or R,G,B")
    images.add_argument(
        "--std", type=positive_numbers, metavar="S", help="standard deviation to divide by: one number, or R,G,B"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the network, print what comes out, write it."""
    from fastconv.cli.runnable import open_runnable

    _check_suffix(options.output)
    labels = None if options.labels is None else read_labels(Path(options.labels))
    network = open_runnable(options.file)
    if options.output and options.output.endswith(".npy") and len(network.outputs) > 1:
        raise ValueError(
            f"--output {options.output}: the network has {len(network.outputs)} outputs; write a .npz file"
        )
    given = [
        read_input(network, port, path, options)
        for port, path in zip(network.inputs, assigned(options.input, network.inputs), strict=True)
    ]
    try:
        made = network.compiled([x.shape for x in given])(*given)
    except ValueError as error:
        others = _of_other_sizes(network.inputs, given)
        raise ValueError(f"{others}: {error}" if others else str(error)) from error
    outputs = dict(zip(network.outputs, made if isinstance(made, tuple) else (made,), strict=True))
    rows = scores(list(outputs.values()))
    if rows is not None:
        print(best(rows, labels or _fitting(network.classes, rows), options.top))
    elif labels is not None:
        raise ValueError(f"--labels {options.labels}: the network returns no row of scores, but {_shapes(outputs)}")
    else:
        print(summary(outputs))
    if options.output:
        write(options.output, outputs)
        print(f"wrote {options.output}")
    return 0


def _of_other_sizes(ports: Sequence[Port], given: Sequence[np.ndarray]) -> str:
    """Return which arrays have other sizes than the network says, which may be why it does not run; the batch may be any."""
    return " and ".join(
        f"{port.label} got shape {x.shape}"
        for port, x in zip(ports, given, strict=True)
        if port.shape is not None and any(n not in (None, m) for n, m in zip(port.shape, x.shape, strict=True))
    )


def assigned(given: Sequence[str], inputs: Sequence[Port]) -> list[Path]:
    """Return the file for each input: those with names first, the others in their order."""
    names = [port.name for port in inputs]
    files: dict[str, Path] = {}
    others: list[str] = []
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            others.append(text)
        elif name not in names:
            raise ValueError(f"--input {text}: the network has no input {name!r}; it has {', '.join(map(repr, names))}")
        elif name in files:
            raise ValueError(f"--input: two files are given for {name!r}")
        else:
            files[name] = Path(path)
    free = [name for name in names if name not in files]
    if len(others) != len(free):
        raise ValueError(
            f"--input must be given once for each of the network's inputs, {', '.join(port.label for port in inputs)}; "
            f"got {len(given)}"
        )
    files.update(zip(free, map(Path, others), strict=True))
    return [files[name] for name in names]


def read_input(network: Runnable, port: Port, path: Path, options: argparse.Namespace) -> np.ndarray:
    """Return an array as the network takes it for an input, from an image or a .npy file."""
    from fastconv.cli.pictures import load_array, read_pixels

    axis, preparation = network.channel_axis(port), _chosen(network.preparation(port), options)
    if path.suffix == ".npy":
        array = with_batch(load_array(path), port, path)
        if array.dtype == np.uint8 and axis is not None and port.dtype.kind == "f":
            array = np.moveaxis(preparation.floats(np.moveaxis(array, axis, -1)), -1, axis)
        return _of_dtype(array, port, path)
    if axis is None or port.shape is None:
        raise ValueError(f"{path}: {port.label} takes no images of 1 or 3 channels: give a .npy file")
    single = len(port.shape) == 3
    sizes = [size for at, size in enumerate(port.shape) if at != axis and (single or at != 0)]
    height, width = options.image_size or (SIDE if size is None else size for size in sizes)
    channels = port.shape[axis] or 0
    print(f"{path}: {height} x {width} {'gray' if channels == 1 else 'RGB'}, {preparation}")
    image = preparation.floats(read_pixels(path, (height, width, channels), crop=preparation.crop))
    return np.ascontiguousarray(np.moveaxis(image if single else image[np.newaxis], -1, axis), port.dtype)


def with_batch(array: np.ndarray, port: Port, path: Path) -> np.ndarray:
    """Return an array with a batch axis, which one sample gets; raise `ValueError` for one of other axes."""
    if port.shape is None or array.ndim == len(port.shape):
        return array
    if array.ndim == len(port.shape) - 1:
        return array[np.newaxis]
    raise ValueError(f"{path} holds an array of shape {array.shape}, which does not fit {port.label}")


def _of_dtype(array: np.ndarray, port: Port, path: Path) -> np.ndarray:
    from fastconv.data import as_floats

    if port.dtype.kind == "f" and (array.dtype.kind == "f" or array.dtype == np.uint8):
        return as_floats(np.ascontiguousarray(array), port.dtype)
    if port.dtype.kind in "iub" and array.dtype.kind not in "iub":
        raise ValueError(f"{path} holds {array.dtype}, and {port.label} takes {port.dtype}")
    if array.dtype.kind not in "iub":
        raise ValueError(f"{path} must hold numbers, got {array.dtype}")
    if port.dtype.kind not in "iub":
        return array
    cast = array.astype(port.dtype)
    if not np.array_equal(cast, array):
        raise ValueError(f"{path} holds numbers that {port.dtype}, which {port.label} takes, does not have")
    return cast


def _chosen(usual: Preparation, options: argparse.Namespace) -> Preparation:
    """Return a preparation with what the user has said in the place of what is usual."""
    said = {name: getattr(options, name) for name in ("white", "mean", "std") if getattr(options, name) is not None}
    if options.crop is not None:
        said["crop"] = None if options.crop == "none" else options.crop
    return usual._replace(**said)


def scores(outputs: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the only output as rows of scores ``(N, classes)``; None where it is something else."""
    y = outputs[0]
    if len(outputs) > 1 or y.dtype.kind != "f" or y.ndim < 2 or [n > 1 for n in y.shape[1:]].count(True) != 1:
        return None
    return y.reshape(len(y), math.prod(y.shape[1:]))


def best(rows: np.ndarray, labels: Sequence[str] | None, top: int) -> str:
    """Return the best classes of each row: probability, score, name. Scores become probabilities by a softmax."""
    from fastconv import functional as F

    classes = rows.shape[1]
    if labels is not None and len(labels) != classes:
        raise ValueError(f"there are {len(labels)} labels, and the network returns {classes} scores")
    certain = (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-3)
    chances = rows if certain else F.softmax(rows)
    lines = []
    for at, (row, chance) in enumerate(zip(rows, chances, strict=True)):
        order = np.argsort(-row, kind="stable")[:top]
        cells = [[f"  {chance[i]:6.1%}", f"{row[i]:.4g}", labels[i] if labels else f"class {i}"] for i in order]
        lines += ([f"sample {at}"] if len(rows) > 1 else []) + [table(cells, right=[1])]
    return "\n".join(lines)


def summary(outputs: dict[str, np.ndarray]) -> str:
    """Return a table of the outputs: name, shape, dtype, least and greatest number."""
    rows = [["output", "shape", "dtype", "from", "to"]]
    for name, y in outputs.items():
        ends = [f"{y.min():.6g}", f"{y.max():.6g}"] if y.size else ["", ""]
        rows.append([name, " x ".join(map(str, y.shape)) or "a number", str(y.dtype), *ends])
    return table(rows, right=[3, 4])


def read_labels(path: Path) -> list[str]:
    """Return the lines of a text file; raise `ValueError` for one that is not text or has none."""
    try:
        lines = path.read_text(encoding="utf-8").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {error}") from error
    if not lines:
        raise ValueError(f"{path} has no labels: a line for each class is expected")
    return [line.strip() for line in lines]


def write(path: str, outputs: dict[str, np.ndarray]) -> None:
    """Write the only output as a .npy file, or all by their names as a .npz file, at once or not at all."""
    import io
    import zipfile

    from fastconv.saving import write_atomically

    content = io.BytesIO()
    if path.endswith(".npy"):
        np.save(content, next(iter(outputs.values())))
    else:
        with zipfile.ZipFile(content, "w") as archive:  # numpy.savez takes no array that is called "file"
            for name, y in outputs.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, y, allow_pickle=False)
    write_atomically(path, content.getvalue())


def _check_suffix(path: str | None) -> None:
    if path is not None and not path.endswith((".npy", ".npz")):
        raise ValueError(f"--output {path}: the file must end in .npy or .npz")


def _fitting(classes: Sequence[str] | None, rows: np.ndarray) -> Sequence[str] | None:
    return classes if classes is not None and len(classes) == rows.shape[1] else None


def _shapes(outputs: dict[str, np.ndarray]) -> str:
    return ", ".join(f"{name} of shape {y.shape}" for name, y in outputs.items())


def _crop(text: str) -> float | str:
    if text == "none":
        return text
    share = positive_number(text)
    if share > 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and at most 1, or none, got {text!r}")
    return share
