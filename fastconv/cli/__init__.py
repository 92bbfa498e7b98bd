"""The command line: ``fastconv train``, ``predict``, ``evaluate``, ``run``, ``summary``, ``freeze``, ``bench``, ``layers``,
``plugins``, ``new-plugin``, ``onnx``, ``info``.

One file a command, each with ``add_parser`` and ``run``; what a command needs is imported when it runs, so that
``fastconv --help`` is instant. Beside them: `plots` draws, `runs` is the folder that a training run writes, `datasets`
finds out what ``--data`` points at, `pictures` turns image files into arrays, `runnable` opens whatever can be run.

`main` returns the exit code: 0, 1 with one line on standard error, 2 for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = (
    "train",
    "predict",
    "evaluate",
    "run",
    "summary",
    "freeze",
    "bench",
    "layers",
    "plugins",
    "new-plugin",
    "onnx",
    "export",
    "info",
)

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

#: What bad input, a full disk or a missing extra raise. Anything else is a bug of ours and keeps its traceback.
EXPECTED = (OSError, ValueError, TypeError, LookupError, ImportError, MemoryError)

TRACEBACK = "FASTCONV_TRACEBACK"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (without the program's name; by default that of the process) and return its exit code.

    Nothing is raised for bad input, which is one line on standard error; with ``FASTCONV_TRACEBACK=1`` in the environment
    the exception comes through instead.

    >>> from fastconv.cli import main
    >>> main(["no-such-command"])
    2
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a name that the terminal's encoding lacks is no reason to stop: it is printed in escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        options = make_parser().parse_args(argv)
        return _run(options)
    except KeyboardInterrupt:  # before the command began
        return INTERRUPTED
    except SystemExit as stop:  # argparse has printed its help or what is wrong
        return stop.code if isinstance(stop.code, int) else USAGE


def _run(options: argparse.Namespace) -> int:
    try:
        code: int = options.run(options)
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
    except KeyboardInterrupt:
        print(f"fastconv {options.command}: stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # whoever read our output has closed it: what Python would still flush at exit goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except EXPECTED as error:
        if os.environ.get(TRACEBACK):
            raise
        print(f"fastconv {options.command}: error: {in_one_line(error)}", file=sys.stderr)
        return FAILED
    return code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    from fastconv import __version__

    parser = argparse.ArgumentParser(
        prog="fastconv",
        description="Convolutional neural networks on the CPU.",
        epilog="Start with 'fastconv train': without options it trains a network on photographs of clothes in seconds. "
        f"Set {TRACEBACK}=1 to see the traceback of an error.",
    )
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    parser.set_defaults(run=lambda options: _without_command(parser))
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in COMMANDS:
        import_module(f"fastconv.cli.{name.replace('-', '_')}").add_parser(commands)
    return parser


def _without_command(parser: argparse.ArgumentParser) -> int:
    parser.print_help(sys.stderr)
    return USAGE


def in_one_line(error: BaseException) -> str:
    """Return what an exception says, in one line; system errors as ``path: reason``."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    if isinstance(error, MemoryError):
        return f"not enough memory. {error}".strip()
    return " ".join(str(error).split()) or type(error).__name__
