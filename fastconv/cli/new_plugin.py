"""``fastconv new-plugin``: write a package with a layer and its tests, ready to be installed."""

from __future__ import annotations

import argparse
import keyword
import re
import sys
from pathlib import Path

#: The files of the package, as they are but for what stands between double underscores. Hidden files begin with ``_dot_``, for
#: tools that leave hidden files out.
TEMPLATE = Path(__file__).with_name("template")

#: What fastconv and the tests of the package import: a module of the same name would stand in front of it.
_TAKEN = {
    "fastconv",
    "fastconv_pytest",
    "hypothesis",
    "numpy",
    "pip",
    "pytest",
    "safetensors",
    "setuptools",
    "tests",
    "torch",
    "tqdm",
}


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "new-plugin",
        help="write a package with a layer of your own and its tests",
        description="Write a package that adds a layer to fastconv: pyproject.toml with the entry point, the layer, tests with "
        "fastconv's conformance suite, a README and a CI file. Its tests pass at once: `pip install -e '.[test]' && pytest`.",
    )
    parser.add_argument("name", metavar="NAME", help="name of the package, such as acme-layers")
    parser.add_argument("--prefix", metavar="WORD", help="prefix of its layers' names (default: acme for acme-layers)")
    parser.add_argument("--out", metavar="FOLDER", help="output folder (default: NAME)")
    parser.set_defaults(run=run, usage=parser.error)


def run(options: argparse.Namespace) -> int:
    """Write the files, and say what comes next."""
    names = names_of(options.name, options.prefix)
    folder = Path(options.out or options.name)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"--out {folder} is a file, not a folder")
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"the folder {folder} is not empty: choose another one with --out")
    for path, text in files(names):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    print(f"wrote {folder}/ with the layer {names['PREFIX']}.Scale in src/{names['MODULE']}/layers.py; next:\n")
    print(f"    cd {folder}\n    pip install -e '.[test]'\n    pytest\n    fastconv plugins")
    return 0


def names_of(package: str, prefix: str | None = None) -> dict[str, str]:
    """Return what the words in the template stand for; raise `ValueError` for names that a package cannot have.

    >>> names = names_of("acme-layers")
    >>> names["PACKAGE"], names["MODULE"], names["PREFIX"]
    ('acme-layers', 'acme_layers', 'acme')
    """
    from fastconv.layers import API_VERSION
    from fastconv.version import __version__

    module = re.sub(r"[-.]+", "_", package).lower()
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*", package) or not module.isidentifier():
        raise ValueError(f"NAME must be letters and digits, with single '-', '_' or '.' in between, got {package!r}")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or module in _TAKEN:
        raise ValueError(
            f"NAME: a package {package!r} could not be imported, because {module!r} is something else in Python"
        )
    prefix = prefix or re.sub(r"^fastconv_|_(layers?|plugins?)$", "", module)
    if not prefix.isidentifier() or prefix == "fastconv":
        raise ValueError(f"--prefix must be a word of yours, as in 'acme', got {prefix!r}")
    release = re.match(r"\d+(\.\d+)?", __version__)
    return {
        "PACKAGE": package,
        "MODULE": module,
        "PREFIX": prefix,
        "VERSION": release[0] if release else "0",
        "API": str(API_VERSION),
    }


def files(names: dict[str, str]) -> list[tuple[Path, str]]:
    """Return the path and the text of every file of the package."""

    def filled(text: str) -> str:
        return re.sub(r"__([A-Z]+)__", lambda word: names[word[1]], text)

    found = []
    for source in sorted(TEMPLATE.rglob("*.in")):
        path = Path(filled(str(source.relative_to(TEMPLATE)).replace("_dot_", "."))).with_suffix("")
        found.append((path, filled(source.read_text(encoding="utf-8"))))
    return found
