"""``fastconv bench``: how fast a network runs here, compared with other inference engines."""

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

HEADER = ("engine", "call", "speedup", "load", "first call", "import", "peak memory")

#: The share of the processors that others may have before it is said.
DISTURBED = 0.05

NOTES = (
    "call: the median; each engine runs in a process of its own, and the processes take turns",
    "speedup: of fastconv over the engine",
    "load, first call, import: in new processes; loading with fastconv includes freezing the model",
    "peak memory: of the whole process, with interpreter, libraries and weights",
)


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="compare the speed of a network with other engines",
        description="Freeze a network and compare it with other inference engines, all of them in float32, with their best "
        "settings and the same number of threads: the time of a call, of loading and of the first call, peak memory, and the "
        "difference between the outputs. Each engine runs in a process of its own while the others wait. A MODEL that is not "
        "an ONNX file is first exported to one, with channels last. PyTorch runs an ONNX file through the package onnx2torch, "
        "which gets operators that are too new for it rewritten.",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--against",
        type=_names,
        metavar="NAMES",
        help="any of onnxruntime, openvino and torch, separated by commas (default: the first two, if installed)",
    )
    parser.add_argument(
        "--batch", type=positive_integers, metavar="N,...", help="batch sizes (default: the file's, or 1)"
    )
    parser.add_argument(
        "--threads", type=positive_integers, default=[1], metavar="N,...", help="numbers of threads (default: 1)"
    )
    parser.add_argument(
        "--shape",
        type=named_shape,
        action="append",
        default=[],
        metavar="INPUT=AxBxC",
        help="shape, without the batch, of an input that an ONNX file leaves open; may be repeated",
    )
    parser.add_argument(
        "--rounds", type=positive_integer, default=5, metavar="N", help="turns of each engine (default: 5)"
    )
    parser.add_argument(
        "--seconds", type=positive_number, default=0.2, metavar="S", help="length of a turn (default: 0.2)"
    )
    parser.add_argument(
        "--starts",
        type=positive_integer,
        default=3,
        metavar="N",
        help="new processes of each engine, for load times (default: 3)",
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
            print(f"{name} is not installed and is left out: {KINDS[name].install}", file=sys.stderr)
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
            0, f"fastconv is {measured.ratio:.2f} times as fast as {measured.best.engine}, the fastest of the others"
        )
    if measured.disturbance > DISTURBED:
        said.append(f"other programs used {measured.disturbance:.0%} of the processors meanwhile: measure again")
    if as_markdown:
        return "\n\n".join([f"### {title}", lines, "; ".join(said)])
    return "\n".join([title, lines, *said])
