"""Virtual environments in which a package can be installed without a network: what the tests themselves run on is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import fastconv

#: Beside an installed package these stay out of a copy of it.
LEFTOVERS = shutil.ignore_patterns(
    "build", "dist", "*.egg-info", "*.so", "*.c", "__pycache__", ".pytest_cache", ".hypothesis"
)


class Environment:
    """A virtual environment of its own, which also sees the packages and the fastconv of this one."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = folder / "bin" / "python"
        (site,) = (folder / "lib").glob("python*/site-packages")
        # the packages of this interpreter, and behind them whatever their own .pth files add
        seen = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), str(Path(fastconv.__file__).parents[1])]
        lines = [f"import site; site.addsitedir({path!r})" for path in dict.fromkeys(seen)]
        (site / "of_the_tests.pth").write_text("\n".join(lines) + "\n")

    def install(self, *sources: Path) -> None:
        """Install packages from their folders, as ``pip install -e .`` would where nothing has to be fetched."""
        options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
        editable = [word for source in sources for word in ("-e", str(source))]
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "install", *options, *editable]
        self._run(command, self.python.parent)

    def start(self, *command: str, cwd: Path) -> subprocess.Popen[str]:
        """Start the environment's Python with `command`, to talk to; what goes wrong is part of what it prints."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [str(self.python), *command],
            cwd=cwd,
            env=self._variables(),
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str, cwd: Path, timeout: float = 300) -> str:
        """Run the environment's Python with `command`; return what it printed, and fail unless it ends well."""
        return self._run([str(self.python), *command], cwd, timeout)

    def _run(self, command: list[str], cwd: Path, timeout: float = 300) -> str:
        done = subprocess.run(command, cwd=cwd, env=self._variables(), capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def _variables(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYTEST", "COV"))}
        path = os.pathsep.join([str(self.python.parent), os.environ.get("PATH", "")])
        # a build has the fastconv of the tests, too, which need not be installed anywhere
        return clean | {"PATH": path, "PYTHONPATH": str(Path(fastconv.__file__).parents[1])}
