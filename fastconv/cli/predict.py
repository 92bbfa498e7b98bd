"""``fastconv predict``: the most probable classes of images."""

from __future__ import annotations

import argparse

from fastconv.cli.options import positive_integer


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "predict",
        help="classify images with a trained model",
        description="Print the most probable classes of each image. Images are resized to the model's input size and converted "
        "to grayscale or RGB as it needs.",
    )
    parser.add_argument("model", metavar="MODEL", help="a model file, or the folder of a training run")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files (PNG, JPEG, ...), or .npy arrays")
    parser.add_argument(
        "--top", type=positive_integer, default=3, metavar="N", help="classes to print for each image (default: 3)"
    )
    parser.add_argument(
        "--invert", action="store_true", help="swap black and white, for dark objects on a white ground"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print one block for each image; the good ones are classified even where others cannot be read."""
    import sys

    import numpy as np

    from fastconv.cli import EXPECTED, in_one_line
    from fastconv.cli.models import load_classifier, probabilities
    from fastconv.cli.pictures import read_picture
    from fastconv.cli.tables import table

    classifier = load_classifier(options.model)
    failures = 0
    for path in options.images:
        try:
            image = read_picture(path, classifier.input_shape, white=classifier.white, invert=options.invert)
        except EXPECTED as error:
            sys.stdout.flush()
            print(f"fastconv predict: error: {in_one_line(error)}", file=sys.stderr)
            failures += 1
            continue
        (chances,) = probabilities(classifier.model, image[np.newaxis])
        best = np.argsort(-chances, kind="stable")[: options.top]
        print(path)
        print(table([[f"  {chances[i]:6.1%}", classifier.classes[i]] for i in best]))
    return 1 if failures else 0
