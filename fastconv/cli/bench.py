"""``fastconv bench``: how fast a network runs here, beside other inference engines."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fastconv.cli.options import add_model_arguments, named_shape, positive_integer, positive_integers, positive_number
from fastconv.cli.tables import bytes_in_words, markdown, plural, seconds_in_words, table

if TYPE_CHECKING:
    from fastconv.engines import Comparison, Network

#: What is compared with unless something is named, as far as it is installed.
USUAL = ("onnxruntime", "openvino")

HEADER = ("engine", "a call", "ours is", "load", "first call", "import", "peak memory")

#: The share of the processors that others may have before it is said.
DISTURBED = 0.05

NOTES = (
    "medians of calls, each engine in its own process, the processes in turn",
    "load, first call and import: in fresh processes; ours freezes the model as it loads it",
    "peak memory: the most that an engine's process had at once, with interpreter, libraries and weights",
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="how fast a network runs, beside other engines",
        description="Freeze a network and measure it beside other inference engines, all of them at float32, with their best "
        "settings and the same threads: the time of a call, of loading, of the first call, the peak of memory, and how far the "
        "outputs differ. Each engine has a process of its own; one works while the others wait. MODEL is an ONNX file, or what "
        "fastconv writes as one first, whose images are channels last. torch runs an ONNX file through the package onnx2torch; "
        "one with newer operators than that knows is written with older ones for it.",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--against",
        type=_names,
        metavar="NAMES",
        help="of onnxruntime, openvino and torch, with commas between them (the first two, where they are installed)",
    )
    parser.add_argument("--batch", type=positive_integers, metavar="N,...", help="samples of a call (the file's, or 1)")
    parser.add_argument("--threads", type=positive_integers, default=[1], metavar="N,...", help="threads (1)")
    parser.add_argument(
        "--shape",
        type=named_shape,
        action="append",
        default=[],
        metavar="INPUT=AxBxC",
        help="shape of an input that an ONNX file leaves open, without the batch; may be given again",
    )
    parser.add_argument("--rounds", type=positive_integer, default=5, metavar="N", help="turns of each engine (5)")
    parser.add_argument("--seconds", type=positive_number, default=0.2, metavar="S", help="of a turn (0.2)")
    parser.add_argument(
        "--starts", type=positive_integer, default=3, metavar="N", help="fresh processes of each engine (3)"
    )
    written = parser.add_mutually_exclusive_group()
    written.add_argument("--json", action="store_true", help="print all figures as JSON")
    written.add_argument("--markdown", action="store_true", help="print tables in Markdown")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 where an engine could not run the network."""
    from fastconv.engines import compare, engines
    from fastconv.engines.engine import version

    names = options.against or _installed()
    teams = [engines(names, threads) for threads in options.threads]
    found: list[Comparison] = []
    with tempfile.TemporaryDirectory() as folder:
        for batch in options.batch or [None]:
            network = _network(options, names, batch, Path(folder))
            for team in teams:
                with _progress() as progress:
                    measured = compare(
                        network,
                        team,
                        rounds=options.rounds,
                        seconds=options.seconds,
                        starts=options.starts,
                        progress=progress,
                    )
                found.append(measured)
                if not options.json:
                    print(_report(measured, options.markdown), end="\n\n", flush=True)
    if options.json:
        versions = {name: version(name) for name in ("fastconv", *names)}
        print(json.dumps({"versions": versions, "comparisons": [each.as_dict() for each in found]}, indent=1))
    elif any(not each.ours.error for each in found):
        print("\n".join(f"- {note}" if options.markdown else note for note in NOTES))
    errors = list(dict.fromkeys(error for each in found for error in each.errors))
    for error in errors:
        print(f"fastconv bench: {error}", file=sys.stderr)
    return 1 if errors else 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _installed() -> list[str]:
    """Return the usual engines that are installed; `ImportError` where none is."""
    from fastconv.engines.engine import KINDS, missing_modules

    found = [name for name in USUAL if not missing_modules(name)]
    if not found:
        commands = " or ".join(KINDS[name].install for name in USUAL)
        raise ImportError(f"there is nothing to compare with: none of {', '.join(USUAL)} is installed; {commands}")
    for name in USUAL:
        if name not in found:
            print(f"without {name}, which is not installed: {KINDS[name].install}", file=sys.stderr)
    return found


def _network(options: argparse.Namespace, names: Sequence[str], batch: int | None, folder: Path) -> Network:
    """Return what all engines load: the file that was named, or that of a model."""
    from fastconv.cli.models import chosen_model
    from fastconv.engines import network

    if options.model.lower().endswith(".onnx"):
        return network(options.model, folder, batch=batch, shapes=dict(options.shape))
    from fastconv import saving
    from fastconv.onnx import save
    from fastconv.onnx.saving import OLDEST
    from fastconv.onnx.saving import USUAL as NEWEST

    path = folder / "model.onnx"
    if Path(options.model).suffix == ".safetensors" and "frozen" in saving.read_description(options.model):
        raise ValueError(
            f"{options.model} is a frozen model, which other engines cannot read: give the model that it was made of"
        )
    if not path.exists():
        save(chosen_model(options), path, opset=OLDEST if "torch" in names else NEWEST)
    return network(path, folder, name=options.model, batch=batch, shapes=dict(options.shape))


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Say on a terminal, in one line that goes again, what is being done."""
    shown = sys.stderr is not None and sys.stderr.isatty()

    def show(text: str) -> None:
        if shown:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

    try:
        yield show
    finally:
        show("")


def _report(measured: Comparison, as_markdown: bool) -> str:
    from fastconv.engines.engine import version

    title = f"{measured.network}: batch {measured.batch}, {plural(measured.threads, 'thread')}"
    rows = []
    for each in measured.engines:
        name = " ".join(filter(None, [each.engine, version(each.engine), each.settings and f"({each.settings})"]))
        if each.error:
            rows.append([name, "failed", *[""] * (len(HEADER) - 2)])
            continue
        ratio = "" if each is measured.ours or measured.ours.error else f"{each.seconds / measured.ours.seconds:.2f}x"
        spent = (seconds_in_words(each.seconds), ratio, *map(seconds_in_words, (each.load, each.first, each.import_)))
        rows.append([name, *spent, bytes_in_words(each.peak)])
    right = range(1, len(HEADER))
    lines = markdown(HEADER, rows, left=1) if as_markdown else table([HEADER, *rows], right=right)
    said = []
    if sum(not each.error for each in measured.engines) > 1:
        said.append(f"largest difference between outputs: {measured.difference:.1e} of the largest output")
    if measured.ratio is not None and measured.best is not None:
        said.insert(
            0, f"fastconv is {measured.ratio:.2f} times as fast as {measured.best.engine}, the best of the others"
        )
    if measured.disturbance > DISTURBED:
        said.append(f"other programs had {measured.disturbance:.0%} of the processors meanwhile: measure again")
    if as_markdown:
        return "\n\n".join([f"### {title}", lines, "; ".join(said)])
    return "\n".join([title, lines, *said])
