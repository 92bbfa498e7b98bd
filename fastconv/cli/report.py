"""The results of testing a classifier: counts, the loss, and a table of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastconv.cli.tables import table


def confusion(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how often each true class (rows) was taken for each class (columns): ``(classes, classes)``, int64.

    >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def mean_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross entropy of ``(N, classes)`` probabilities with integer labels ``(N,)``, in nats."""
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(chosen, np.finfo(np.float32).tiny)).mean())


def recognized(counts: np.ndarray, classes: Sequence[str]) -> str:
    """Return a table: each class, how many of its images were recognized, and what it was most often mistaken for."""
    rows = [["class", "images", "recall", "most often mistaken for"]]
    for i, name in enumerate(classes):
        total = int(counts[i].sum())
        others = counts[i].copy()
        others[i] = 0
        other = f"{classes[others.argmax()]} ({others.max()})" if others.any() else ""
        rows.append([name, f"{total:,}", f"{counts[i, i] / total:.1%}" if total else "", other])
    return table(rows, right=[1, 2])
