"""``fastconv freeze``: compile a model for inference, write it to a file, show its steps and how long each takes."""

from __future__ import annotations

import argparse

from fastconv.cli.options import add_model_arguments, positive_integer


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "freeze",
        help="compile a model or an ONNX file for inference",
        description="Compile a model for inference. Write it to a file for fastconv.load_frozen, or show its steps: the layers "
        "that each step computes, its algorithm, its time, and its share of the machine's peak.",
    )
    add_model_arguments(parser)
    parser.add_argument("--out", metavar="FILE", help="where to write the frozen model (.safetensors)")
    parser.add_argument("--explain", action="store_true", help="show the steps (implied without --out and --chart)")
    parser.add_argument("--chart", metavar="FILE.png", help="plot the time of each step")
    parser.add_argument(
        "--batch", type=positive_integer, default=1, metavar="N", help="images per measured call (default: 1)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Freeze, write, explain."""
    import fastconv
    from fastconv.cli.models import chosen_model
    from fastconv.cli.tables import plural

    model = chosen_model(options)
    frozen = fastconv.freeze(model, keep=False)
    if options.out:
        frozen.save(options.out)
        print(
            f"{options.out}: {plural(len(frozen.program.steps), 'step')}, {frozen.constant_bytes:,} bytes of constants"
        )
    explain = options.explain or not (options.out or options.chart)
    if explain or options.chart:
        explanation = frozen.explain(batch=options.batch)
        if options.chart:
            explanation.plot(options.chart)
            print(f"wrote {options.chart}")
        if explain:
            print(explanation)
    return 0
