"""Boxes of images: means over their cells, and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastconv.functional._spans import Side
from fastconv.functional._validate import kernels_for


def kept_boxes(corners: NDArray[Any], most: int, overlap: float) -> NDArray[np.int64]:
    """Return which boxes stay, at most so many, of some that come from the best on.

    `corners` (B, 4) are the least and the greatest corner of each. A box goes that shares more than `overlap` of their union
    with one that stays.

    >>> kept_boxes(np.array([[0.0, 0.0, 1.0, 1.0], [0.1, 0.0, 1.1, 1.0], [5.0, 0.0, 6.0, 1.0]]), 3, 0.5)
    array([0, 2])
    """
    wide = np.ascontiguousarray(corners, np.float64)
    kept = np.empty(min(most, len(wide)), np.int64)
    return kept[: kernels_for(wide).keep_boxes(wide, overlap, kept)]


def cell_means(x: Sequence[NDArray[Any]], rows: Side, columns: Side, y: NDArray[Any]) -> None:
    """Write y (R, P, Q, C), weighted sums of lines and of pixels of x (R images (H, W, C), one for each box).

    `rows` has the R * P matrices' rows for the lines of the cells, `columns` R * Q for their pixels.
    """
    (boxes, p, q, _), one = y.shape, np.ones(1)
    weights = np.concatenate([one, rows.weights, columns.weights]).astype(y.dtype)
    spans = np.zeros((boxes, 1 + p + q, 3), np.int64)
    spans[:, 0, 1] = 1
    spans[:, 1 : 1 + p] = rows.spans.reshape(boxes, p, 3)
    spans[:, 1 + p :] = columns.spans.reshape(boxes, q, 3)
    spans[:, 1 : 1 + p, 2] += 1
    spans[:, 1 + p :, 2] += 1 + len(rows.weights)
    resize = kernels_for(y).resize
    for image, made, own in zip(x, y, spans, strict=True):
        resize(image[None, None], made[None, None], own, weights, 1)
