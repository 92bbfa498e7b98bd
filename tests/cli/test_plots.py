"""The pictures: they are PNG files of a sensible size for few and many classes, epochs and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from programs import run_program

from fastconv.cli import plots

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("matplotlib")


def size_of(path: Path) -> tuple[int, int]:
    """Return the size of a PNG file in pixels, after reading all of it."""
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        width, height = image.size
    return width, height


@pytest.mark.parametrize("epochs", [0, 1, 2, 40])
def test_learning_curves(tmp_path: Path, epochs: int) -> None:
    values = list(np.linspace(1, 0.5, epochs))
    plots.learning_curves({"loss": values, "val_loss": values, "accuracy": values}, tmp_path / "curves.png")
    width, height = size_of(tmp_path / "curves.png")
    assert 600 < width < 2000 and 300 < height < 1000


@pytest.mark.parametrize("n", [2, 10, 30, 100])
def test_confusion_matrix(tmp_path: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 50, (n, n))
    counts[0] = 0  # a class without test images
    classes = [f"class {i} with $ and a long name" for i in range(n)]
    plots.confusion_matrix(counts, classes, tmp_path / "matrix.png")
    width, height = size_of(tmp_path / "matrix.png")
    assert 300 < width < 3000 and 300 < height < 3000


@pytest.mark.parametrize(("n", "channels"), [(1, 1), (7, 3), (500, 1)])
@pytest.mark.parametrize("share_right", [0.0, 0.9, 1.0])
def test_prediction_sheet(tmp_path: Path, n: int, channels: int, share_right: float) -> None:
    rng = np.random.default_rng(0)
    images = rng.random((n, 9, 12, channels), dtype=np.float32)
    probabilities = rng.dirichlet(np.ones(3), n)
    labels = np.where(rng.random(n) < share_right, probabilities.argmax(1), (probabilities.argmax(1) + 1) % 3)
    plots.prediction_sheet(images, labels, probabilities, ["a", "b", "c"], tmp_path / "sheet.png")
    width, height = size_of(tmp_path / "sheet.png")
    assert 800 < width < 3000 and 150 < height < 3000


def test_names_in_letters_that_the_font_lacks(tmp_path: Path) -> None:
    plots.confusion_matrix(
        np.eye(2, dtype=int), ["日本", "\u2028"], tmp_path / "matrix.png"
    )  # a warning would be an error
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")


def test_no_window_system_and_no_pyplot_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND"):
        monkeypatch.delenv(name, raising=False)
    run_program(
        "import sys\n"
        "from fastconv.cli import plots\n"
        f"plots.learning_curves({{'loss': [1.0]}}, {str(tmp_path / 'x.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )


def test_without_matplotlib_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'fastconv\[plot\]'"):
        plots.learning_curves({"loss": [1.0]}, tmp_path / "x.png")
