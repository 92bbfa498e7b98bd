"""``fastconv evaluate``: the accuracy of a trained network on a data set, class by class."""

from __future__ import annotations

import argparse


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="test a trained model on a data set",
        description="Print the loss and accuracy of a model on the test images of a data set, and the recall of each class.",
    )
    parser.add_argument("model", metavar="MODEL", help="a model file, or the folder of a training run")
    parser.add_argument("--data", metavar="PATH", help="as for `fastconv train` (default: the images in the package)")
    parser.add_argument(
        "--part",
        choices=("test", "train", "all"),
        default="test",
        help="which images; without test images, a fifth of each class is held out, as in training (default: test)",
    )
    parser.add_argument("--confusion-matrix", metavar="FILE.png", help="also plot the confusion matrix")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    import numpy as np

    from fastconv.cli import plots
    from fastconv.cli.datasets import load_data_for
    from fastconv.cli.models import load_classifier, probabilities
    from fastconv.cli.report import confusion, mean_loss, recognized
    from fastconv.cli.tables import plural

    classifier = load_classifier(options.model)
    data = load_data_for(options.data, classifier.input_shape)
    if not classifier.named and len(data.classes) != len(classifier.classes):
        raise ValueError(f"the model has {len(classifier.classes)} outputs, the data has {len(data.classes)} classes")
    if classifier.named and data.classes != classifier.classes:
        raise ValueError(
            f"the model knows the classes {', '.join(classifier.classes)}, the data has {', '.join(data.classes)}"
        )
    parts = {"test": [data.test], "train": [data.train], "all": [data.train, data.test]}[options.part]
    x = np.concatenate([images for images, _ in parts])
    y = np.concatenate([labels for _, labels in parts])
    chances = probabilities(classifier.model, x)
    counts = confusion(y, chances.argmax(axis=1), len(data.classes))
    print(f"data      {data.source}: {plural(len(y), 'image')}")
    print(f"loss      {mean_loss(chances, y):.4f}")
    print(f"accuracy  {counts.trace() / len(y):.2%}\n")
    print(recognized(counts, data.classes))
    if options.confusion_matrix:
        plots.confusion_matrix(counts, data.classes, options.confusion_matrix)
        print(f"\nwrote {options.confusion_matrix}")
    return 0
