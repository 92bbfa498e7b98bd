"""``fastconv train``: train a network on images, and write the model, its history and plots to a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from fastconv.cli.options import image_size, positive_integer, positive_number, seed
from fastconv.cli.recipe import AUGMENTATIONS, DEFAULTS, LEARNING_RATES, SCHEDULES, check_recipe

if TYPE_CHECKING:
    from fastconv.cli.datasets import Data
    from fastconv.cli.models import Classifier
    from fastconv.cli.runs import Run
    from fastconv.training import History

Say = Callable[[str], None]


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "train",
        help="train a network, by default on images that come with the package",
        description="Train a network on images and write the model, its history and plots to a folder. Without options, train "
        "the default network on the 2,000 photographs of clothes that come with the package.",
    )
    # no defaults here: a resumed run must tell what was said from what was not; DEFAULTS has them
    what = parser.add_argument_group("what to train")
    what.add_argument(
        "--data",
        metavar="PATH",
        help="a folder with a subfolder of images per class, a folder of IDX files, an .npz file, or a plugin's data set "
        "such as acme.flowers",
    )
    what.add_argument(
        "--image-size", type=image_size, metavar="HxW", help="resize the images of a folder to this size in pixels"
    )
    what.add_argument("--gray", action="store_const", const=True, help="read the images of a folder as grayscale")
    what.add_argument(
        "--model", metavar="NAME", help="a built-in network, a plugin's, or a JSON file (default: cnn-small)"
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--epochs", type=positive_integer, metavar="N", help="passes over the training images (default: 10)"
    )
    how.add_argument("--batch-size", type=positive_integer, metavar="N", help="images per step (default: 64)")
    how.add_argument(
        "--optimizer",
        metavar="NAME",
        help=f"{', '.join(sorted(LEARNING_RATES))}, or a plugin's such as acme.lion (default: adam)",
    )
    how.add_argument(
        "--learning-rate",
        type=positive_number,
        metavar="RATE",
        help="peak learning rate (default: depends on the optimizer)",
    )
    how.add_argument(
        "--schedule", choices=SCHEDULES, help="how the learning rate changes over the run (default: one-cycle)"
    )
    how.add_argument(
        "--augment", nargs="+", choices=AUGMENTATIONS, metavar="HOW", help=f"one or more of {', '.join(AUGMENTATIONS)}"
    )
    how.add_argument("--seed", type=seed, metavar="N", help="seed of all random numbers (default: 0)")
    how.add_argument(
        "--threads", type=positive_integer, metavar="N", help="number of threads; the result does not depend on it"
    )
    where = parser.add_argument_group("where")
    where.add_argument("--out", metavar="FOLDER", help="output folder (default: runs/ and the time)")
    where.add_argument("--force", action="store_true", help="overwrite an earlier run in the output folder")
    where.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="continue the run in this folder, in --out, or the latest in runs/, from its last complete epoch",
    )
    where.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run, usage=parser.error)


def run(options: argparse.Namespace) -> int:
    """Train, test, write everything, and print where it is."""
    import fastconv
    from fastconv.cli import INTERRUPTED, OK, plots
    from fastconv.cli.datasets import is_image_folder, load_data
    from fastconv.cli.models import Classifier, make_model
    from fastconv.cli.recipe import make_optimizer
    from fastconv.cli.runs import new_run
    from fastconv.cli.tables import plural

    say: Say = _nothing if options.quiet else print
    earlier, recipe = _recipe(options)
    try:
        make_optimizer(recipe)  # a plugin's, or a wrong name, is found before anything is written
    except ValueError as error:
        options.usage(f"argument --optimizer: {error}")
    pictures = plots.available()
    with ExitStack() as stack:
        if options.threads is not None:
            stack.enter_context(fastconv.num_threads(options.threads))
        fastconv.get_num_threads()  # an environment variable that is not a number fails here, before a folder is made
        size = recipe["image_size"] and tuple(recipe["image_size"])
        data = load_data(recipe["data"], size=size, gray=recipe["gray"])
        if (size or recipe["gray"]) and not is_image_folder(recipe["data"]):
            options.usage(f"--image-size and --gray are for a folder of image files, not for {data.source}")
        _require_same_data(recipe, data)
        model = make_model(recipe["model"], data.input_shape, len(data.classes))
        classifier = Classifier(model, data.classes, data.white)
        folder = earlier or new_run(options.out, force=options.force)
        folder.write_options(recipe)
        if not pictures:
            say("Without matplotlib no plots are drawn: pip install 'fastconv[plot]'\n")
        _introduce(say, data, recipe, classifier, folder)
        history = _fit(classifier, data, recipe, folder, resume=earlier is not None, quiet=options.quiet)
        if len(history):
            _finish(say, classifier, data, history, folder, pictures)
    if history.stopped:
        kept = plural(len(history), "epoch")
        raise ValueError(f"{history.stopped}; {kept} kept in {folder.folder}; a lower --learning-rate may help")
    if not history.interrupted:
        return OK
    if len(history):
        print(f"fastconv train: stopped; continue with: fastconv train --resume {folder.folder}", file=sys.stderr)
    else:
        print("fastconv train: stopped before the end of the first epoch; no model was written", file=sys.stderr)
    return INTERRUPTED


def _nothing(text: str) -> None:
    """Say nothing."""


def _recipe(options: argparse.Namespace) -> tuple[Run | None, dict[str, Any]]:
    """Return the run to continue, if any, and the options that decide the result: said, those of that run, or the defaults."""
    from pathlib import Path

    from fastconv.cli.runs import find_run

    said = {name: getattr(options, name) for name in DEFAULTS if getattr(options, name) is not None}
    if options.resume is None:
        # absolute, because the run may be resumed from another folder
        if "data" in said and Path(said["data"]).exists():
            said["data"] = str(Path(said["data"]).absolute())
        if str(said.get("model")).endswith(".json"):
            said["model"] = str(Path(said["model"]).absolute())
        return None, DEFAULTS | said
    if options.resume and options.out and Path(options.resume) != Path(options.out):
        options.usage(
            f"--resume {options.resume} and --out {options.out} name two folders: a run continues where it began"
        )
    if options.force:
        options.usage("--force overwrites a run and --resume continues it: choose one")
    changed = sorted(set(said) - {"epochs"})
    if changed:
        names = ", ".join("--" + name.replace("_", "-") for name in changed)
        options.usage(
            f"--resume continues with the options of its run; {names} cannot be given (--epochs and --threads can)"
        )
    earlier = find_run(options.resume or options.out)
    recipe = earlier.read_options()
    check_recipe(recipe, earlier.options)
    return earlier, recipe | said


def _require_same_data(recipe: dict[str, Any], data: Data) -> None:
    """Note the checksum of the data in a new recipe; raise `ValueError` where that of a resumed one is another."""
    checksum = data.fingerprint()
    if recipe.setdefault("data_checksum", checksum) != checksum:
        raise ValueError(f"{data.source} has changed since the run began: it cannot go on with other images")


def _introduce(say: Say, data: Data, recipe: dict[str, Any], classifier: Classifier, folder: Run) -> None:
    from fastconv.cli.tables import plural
    from fastconv.threads import explain_threads

    threads, why = explain_threads()
    height, width, channels = data.input_shape
    count = sum(array.size for array in classifier.model.params.values())
    say(f"data     {data.source}")
    say(
        f"         {len(data.train[0]):,} training and {plural(len(data.test[0]), 'test image')}, "
        f"{height} x {width} x {channels}, {len(data.classes)} classes"
    )
    say(f"network  {recipe['model']}, {count:,} parameters")
    say(f"threads  {threads} ({why})")
    say(f"folder   {folder.folder}\n")


def _fit(
    classifier: Classifier, data: Data, recipe: dict[str, Any], folder: Run, *, resume: bool, quiet: bool
) -> History:
    """Train, and write the model, a checkpoint and the history after every epoch."""
    import numpy as np

    from fastconv import training
    from fastconv.cli.recipe import make_augmentations, make_optimizer

    class SaveModel(training.Callback):
        """Writes the model with the names of its classes: what `fastconv predict` reads, whenever the run may end."""

        def on_snapshot(self, run: training.Run) -> None:
            run.model.save(folder.model, extra=classifier.extra())

    classifier.model.build(rng=np.random.default_rng(recipe["seed"]))
    # numbers that overflow are reported once, in words, by TerminateOnNaN
    with np.errstate(over="ignore", invalid="ignore"):
        return training.fit(
            classifier.model,
            *data.train,
            epochs=recipe["epochs"],
            batch_size=recipe["batch_size"],
            optimizer=make_optimizer(recipe),
            augment=make_augmentations(recipe["augment"], data),
            validation_data=data.test,
            callbacks=[
                training.TerminateOnNaN(),
                SaveModel(),
                training.ModelCheckpoint(folder.checkpoint, extra=classifier.extra()),
                training.CSVLogger(folder.history),
            ],
            seed=recipe["seed"],
            verbose=not quiet,
            resume=folder.checkpoint if resume else None,
        )


def _finish(say: Say, classifier: Classifier, data: Data, history: History, folder: Run, pictures: bool) -> None:
    """Test the network, draw, and say where everything is."""
    import numpy as np

    from fastconv.cli import plots
    from fastconv.cli.models import probabilities
    from fastconv.cli.report import confusion
    from fastconv.cli.tables import plural
    from fastconv.data import as_floats

    x, y = data.test
    chances = probabilities(classifier.model, x)
    counts = confusion(y, chances.argmax(axis=1), len(data.classes))
    if pictures:
        plots.learning_curves(
            {name: history[name] for name in ("loss", "accuracy", "val_loss", "val_accuracy")}, folder.learning_curves
        )
        plots.confusion_matrix(counts, data.classes, folder.confusion_matrix)
        plots.prediction_sheet(as_floats(x, np.float32) / data.white, y, chances, data.classes, folder.predictions)
    took = f"{plural(len(history), 'epoch')} in {sum(history['seconds']):.0f} s"
    say(f"\ntest accuracy  {counts.trace() / len(y):.2%} of {len(y):,} images, after {took}\n")
    for what, path in folder.files():
        if path.is_file():
            say(f"{what:<18}{path}")
