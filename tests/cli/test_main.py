"""The command line as a whole: help, wrong usage, one line for what goes wrong, closed pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_problems import environment
from programs import run_program

import fastconv
from fastconv import cli
from fastconv.cli import COMMANDS, main


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command}" in said.split("positional arguments")[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"fastconv {command}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastconv {fastconv.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "COMMAND"),
        (["no-such"], "invalid choice: 'no-such'"),
        (["train", "--epochs", "0"], "expected an integer of at least 1, got '0'"),
        (["train", "--epochs", "1.5"], "expected an integer of at least 1, got '1.5'"),
        (["train", "--learning-rate", "-1"], "expected a number above 0, got '-1'"),
        (["train", "--learning-rate", "nan"], "expected a number above 0, got 'nan'"),
        (["train", "--image-size", "8x8x8"], "expected HEIGHTxWIDTH"),
        (["train", "--augment", "sharpen"], "invalid choice: 'sharpen'"),
        (["train", "--optimizer", "lbfgs"], "there is no optimizer named 'lbfgs'"),
        (["train", "--optimizer", "adm"], "no optimizer named 'adm'; did you mean 'adam'? There are: adam, adamw, "),
        (["predict"], "the following arguments are required"),
        (["summary", "lenet", "--input-shape", "28"], "expected HEIGHTxWIDTHxCHANNELS"),
    ],
)
def test_wrong_usage_is_exit_code_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\n  lines"), "two lines"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), "a.png: No such file or directory"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (MemoryError(), "not enough memory."),
        (KeyError("weight"), "'weight'"),
        (ImportError(), "ImportError"),
    ],
)
def test_what_goes_wrong_is_one_line(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: object) -> int:
        raise error

    monkeypatch.setattr("fastconv.cli.info.run", fail)
    assert main(["info"]) == 1
    assert capsys.readouterr().err == f"fastconv info: error: {line}\n"
    monkeypatch.setenv(cli.TRACEBACK, "1")
    with pytest.raises(type(error)):
        main(["info"])


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(options: object) -> int:
        raise AssertionError("a bug")

    monkeypatch.setattr("fastconv.cli.info.run", fail)
    with pytest.raises(AssertionError):
        main(["info"])


def test_control_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("fastconv.cli.info.run", stop)
    assert main(["info"]) == 130
    assert "stopped" in capsys.readouterr().err


def test_control_c_before_the_command_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "make_parser", stop)
    assert main(["info"]) == 130


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "fastconv", "layers"]
    try:
        result = subprocess.run(
            command, cwd=tmp_path, env=environment(), stdout=writer, stderr=subprocess.PIPE, timeout=300
        )
    finally:
        os.close(writer)
    assert result.stderr == b""
    assert result.returncode == 1


def test_help_imports_nothing_heavy() -> None:
    result = run_program(
        "import sys\n"
        "from fastconv.cli import main\n"
        "main(['--help'])\n"
        "heavy = ('matplotlib', 'PIL', 'tqdm', 'safetensors', 'fastconv.training')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    assert result.stdout.endswith("[]\n")


def test_output_that_is_closed_is_no_traceback() -> None:
    run_program("import sys; from fastconv.cli import main; sys.stdout = None; assert main(['info']) == 0")


def test_names_that_the_terminal_cannot_show_are_escaped() -> None:
    shown = run_program("from fastconv.cli import main; main(['info']); print('\u00fc')", PYTHONIOENCODING="ascii")
    assert shown.stdout.endswith("\\xfc\n")


@pytest.mark.parametrize(
    "argv",
    [
        ["info"],
        ["layers"],
        ["train", "--optimizer", "adam", "--quiet"],
        ["predict", "model", "image.png"],
        ["evaluate", "model"],
        ["summary", "lenet"],
    ],
)
@pytest.mark.parametrize(
    "start",
    [
        ["-m", "fastconv"],
        # what the script that pip makes does
        ["-c", "import sys; from fastconv.cli import main; sys.exit(main())"],
    ],
)
def test_an_instruction_set_that_does_not_exist_is_one_line(start: list[str], argv: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *start, *argv],
        env=environment() | {"FASTCONV_ISA": "nonsense"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    lines = f"fastconv {argv[0]}: error: FASTCONV_ISA must be one of baseline, avx2, avx512, got 'nonsense'\n"
    assert done.stderr == lines
