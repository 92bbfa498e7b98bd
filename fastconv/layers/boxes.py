"""Boxes of images: resampled to one size, and non-maximum suppression."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.arguments import ntuple, positive
from fastconv.functional._boxes import cell_means, kept_boxes
from fastconv.functional._spans import Side, side
from fastconv.layers.base import Backward, Layer
from fastconv.layers.checks import number, require_floats, sizes, with_batch
from fastconv.layers.context import Context
from fastconv.layers.sampling import Taps
from fastconv.layers.symbol import Shape
from fastconv.layers.traits import Traits
from fastconv.registry import layers

#: Points of a cell along each axis.
MOST_SAMPLES = 1024

#: Boxes whose weights are found at once.
TOGETHER = 64

Gradients = tuple[Any, dict[str, np.ndarray]]


@layers.register("RoiAlign")
class RoiAlign(Layer):
    """Boxes of images in one size: ``(N, T, H, W, C)``, boxes ``(N, R, 4)`` and images ``(N, R)`` to ``(N, R, *size, C)``.

    A box is ``x1, y1, x2, y2`` in an image of the T, whose number stands among the integers of the third input. Every cell of
    the output is made of points between pixels, evenly spread in it. Source: He et al., Mask R-CNN, ICCV 2017, section 3.

    Parameters
    ----------
    size : (int, int)
        Cells of the output along each axis.
    samples : int
        Points of a cell along each axis, at most 1024; 0: as many as it has pixels.
    scale : float
        Pixels of the image for each unit of the boxes.
    reduce : "mean" or "max"
        What is made of the points: their mean, or the largest of the weighted pixels around them.
    half_pixel : bool
        Whether places are half a pixel less; else boxes are at least one pixel large.

    Raises
    ------
    ValueError
        For boxes that are not finite, and images that are none.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.arange(16.0).reshape(1, 1, 4, 4, 1)
    >>> boxes, images = np.array([[[0.0, 0.0, 4.0, 4.0]]]), np.array([[0]])
    >>> RoiAlign([1, 1], samples=1)(image, boxes, images).ravel()
    array([7.5])
    """

    def __init__(
        self,
        size: Sequence[int],
        *,
        samples: int = 0,
        scale: float = 1.0,
        reduce: str = "mean",
        half_pixel: bool = True,
    ) -> None:
        self.size = ntuple(sizes(size, "size"), 2, "size")
        self.samples = ntuple(samples, 1, "samples", minimum=0)[0]
        if self.samples > MOST_SAMPLES:
            raise ValueError(f"samples must be at most {MOST_SAMPLES}, got {self.samples}")
        self.scale = number(scale, "scale")
        if reduce not in ("mean", "max"):
            raise ValueError(f'reduce must be "mean" or "max", got {reduce!r}')
        self.reduce, self.half_pixel = reduce, bool(half_pixel)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls([2, 2], samples=2), [(1, 5, 4, 2), (3, 4), (3,)])]

    @property
    def traits(self) -> Traits:
        return Traits(integers=(2,), kinks=self._distance, domain=(0.0, 1.0))

    def _distance(self, x: np.ndarray, boxes: np.ndarray, images: np.ndarray) -> float:
        nearest = math.inf
        for box in boxes.reshape(-1, 4):
            for place, _, _ in self._lines(box):
                nearest = min(nearest, float(np.abs(place - np.rint(place)).min(initial=math.inf)))
        if self.reduce == "max" and x.size:
            nearest = min(nearest, 1.0)
        return nearest

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 3 or [len(shape) for shape in shapes] != [4, 2, 1] or shapes[1] != (shapes[2][0], 4):
            raise ValueError(
                f"RoiAlign takes (N, T, H, W, C), (N, R, 4) and (N, R), got {' and '.join(map(with_batch, shapes))}"
            )
        return (shapes[1][0], *self.size, shapes[0][-1])

    def _ends(self, boxes: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return for boxes ``(R, 4)``, along rows or columns: begin, length, whether that is made up, points a cell."""
        start, end = (
            boxes[:, at].astype(np.float64) * self.scale - 0.5 * self.half_pixel for at in (1 - axis, 3 - axis)
        )
        length = end - start
        stretched = (length < 1) & (not self.half_pixel)
        length = np.where(stretched, 1.0, length)
        points = np.maximum(np.ceil(length / self.size[axis]), 0) if self.samples == 0 else 0 * length + self.samples
        return start, length, stretched, points.astype(np.int64)

    def _parts(self, axis: int, points: int) -> np.ndarray:
        """Return how far along a box each of its points is."""
        cells = self.size[axis]
        return (np.arange(cells)[:, None] + (np.arange(points) + 0.5) / max(points, 1)).ravel() / cells

    def _lines(self, box: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """Return for rows and columns the places of all points, how they move with both ends of the box, and points a cell."""
        lines = []
        for axis in (0, 1):
            start, length, stretched, points = (each[0] for each in self._ends(box[None], axis))
            part = self._parts(axis, points)
            moves = np.stack([np.ones_like(part) if stretched else 1 - part, 0 * part if stretched else part])
            lines.append((start + part * length, moves * self.scale, int(points)))
        return lines

    def forward(
        self, ctx: Context, x: np.ndarray, boxes: np.ndarray, images: np.ndarray
    ) -> tuple[np.ndarray, Backward]:
        out = (len(x), *self.output_shape(x.shape[1:], boxes.shape[1:], images.shape[1:]))
        require_floats(x, boxes)
        if images.dtype.kind not in "iu" or not len(x) == len(boxes) == len(images):
            raise TypeError(
                f"the images must be integers, as many as boxes, got {images.dtype} of shape {images.shape}"
            )
        if images.size and not (-x.shape[1] <= images.min() and images.max() < x.shape[1]):
            raise ValueError(f"the images must be numbers below {x.shape[1]}, got {images.min()} to {images.max()}")
        if not np.isfinite(boxes).all():
            raise ValueError("the boxes must be finite numbers")
        y = np.zeros(out, x.dtype)

        def crop(at: tuple[int, ...]) -> _Crop:
            return _Crop(x[at[0], images[at]], self._lines(boxes[at]), self.size)

        if self.reduce == "mean":
            for n, (pixels, made) in enumerate(zip(np.ascontiguousarray(x), y, strict=True)):
                self._means(pixels, boxes[n], images[n], made)
        else:
            for at in np.ndindex(*images.shape):
                y[at] = crop(at).largest()

        def backward(dy: np.ndarray) -> Gradients:
            dx, dboxes = np.zeros_like(x), np.zeros_like(boxes)
            for at in np.ndindex(*images.shape):
                rows, columns = crop(at).back(dy[at], dx[at[0], images[at]], self.reduce)
                dboxes[at] = (columns[0], rows[0], columns[1], rows[1])
            return (dx, dboxes, None), {}

        return y, backward

    def _means(self, x: np.ndarray, boxes: np.ndarray, images: np.ndarray, y: np.ndarray) -> None:
        """Write the means of the points of each cell, for the boxes of one sample; some boxes at a time."""
        for first in range(0, len(boxes), TOGETHER):
            some = slice(first, first + TOGETHER)
            rows, columns = (self._side(boxes[some], axis, x.shape[1 + axis]) for axis in (0, 1))
            cell_means([x[image] for image in images[some]], rows, columns, y[some])

    def _side(self, boxes: np.ndarray, axis: int, size: int) -> Side:
        """Return the weights of the pixels along an axis, for each cell of each box."""
        start, length, _, points = self._ends(boxes, axis)
        cells, entries = self.size[axis], []
        for count in np.unique(points[points > 0]):
            which = np.flatnonzero(points == count)[:, None]
            place = start[which] + self._parts(axis, count) * length[which]
            taps = _taps(place, size)
            cell = np.broadcast_to(which * cells + np.arange(cells * count) // count, taps.pixels.shape)
            entries.append((cell.ravel(), taps.pixels.ravel(), taps.weights.ravel() / count))
        nothing = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
        outputs, inputs, weights = (np.concatenate(each) for each in zip(nothing, *entries, strict=True))
        return side(outputs, inputs, weights, len(boxes) * cells)

    def window(self, *shapes: Shape) -> None:
        return None


class _Crop:
    """One box of one image ``(H, W, C)``: four weighted pixels at each point."""

    def __init__(self, image: np.ndarray, lines: Sequence[Any], size: tuple[int, ...]) -> None:
        self.image, self.lines, self.size = image, lines, size
        self.taps = [_taps(line[0], n) for line, n in zip(lines, image.shape, strict=False)]
        self.count = lines[0][2] * lines[1][2]

    def _corners(self) -> list[tuple[int, int]]:
        return list(itertools.product((0, 1), (0, 1)))

    def _weighted(self, i: int, j: int) -> np.ndarray:
        rows, columns = self.taps
        weight = rows.weights[i][:, None] * columns.weights[j][None, :]
        pixels = self.image[rows.pixels[i][:, None], columns.pixels[j][None, :]]
        return np.asarray(weight[..., None] * pixels)

    def _cells(self, points: np.ndarray) -> np.ndarray:
        """Return ``(P, Q, points of a cell, C)``."""
        p, q = self.size
        across = points.reshape(p, self.lines[0][2], q, self.lines[1][2], -1)
        return across.transpose(0, 2, 1, 3, 4).reshape(p, q, self.count, -1)

    def largest(self) -> np.ndarray:
        if not self.count:
            return np.zeros((*self.size, self.image.shape[-1]), self.image.dtype)
        each = np.stack([self._cells(self._weighted(i, j)) for i, j in self._corners()])
        return np.asarray(each.max(axis=(0, 3)))

    def back(self, dy: np.ndarray, dx: np.ndarray, reduce: str) -> tuple[np.ndarray, np.ndarray]:
        """Add the gradient of the image to `dx`; return those of both ends of the box along rows and columns."""
        ends = [np.zeros(2), np.zeros(2)]
        if not self.count:
            return ends[0], ends[1]
        shares = self._shares(dy, reduce)
        rows, columns = self.taps
        for (i, j), share in zip(self._corners(), shares, strict=True):
            at = rows.pixels[i][:, None], columns.pixels[j][None, :]
            weight = rows.weights[i][:, None] * columns.weights[j][None, :]
            np.add.at(dx, at, (share * weight[..., None]).astype(dx.dtype))
            pull = (share * self.image[at]).sum(axis=-1)  # of each point, for each unit of its weight
            down = (pull * rows.slopes[i][:, None] * columns.weights[j][None, :]).sum(axis=1)
            right = (pull * rows.weights[i][:, None] * columns.slopes[j][None, :]).sum(axis=0)
            ends[0] += self.lines[0][1] @ down
            ends[1] += self.lines[1][1] @ right
        return ends[0], ends[1]

    def _shares(self, dy: np.ndarray, reduce: str) -> list[np.ndarray]:
        """Return for each corner what of dy goes to every point: ``(rows, columns, C)``."""
        p, q, a, b = *self.size, self.lines[0][2], self.lines[1][2]
        if reduce == "mean":
            spread = np.broadcast_to(dy[:, None, :, None] / self.count, (p, a, q, b, dy.shape[-1]))
            return [spread.reshape(p * a, q * b, -1)] * 4
        each = np.stack([self._cells(self._weighted(i, j)) for i, j in self._corners()], axis=2)
        flat = each.reshape(p, q, 4 * self.count, -1)
        first = np.argmax(flat, axis=2)[:, :, None] == np.arange(4 * self.count)[:, None]
        won = np.where(first, dy[:, :, None], 0).reshape(p, q, 4, a, b, -1)
        return [won[:, :, corner].transpose(0, 2, 1, 3, 4).reshape(p * a, q * b, -1) for corner in range(4)]


def _taps(place: np.ndarray, size: int) -> Taps:
    """Return the two pixels around each place between pixels, one after the other along the first axis."""
    away = (place < -1) | (place > size)
    moves = ~away & (place > 0) & (place < size - 1)
    place = np.clip(place, 0, size - 1)
    first = np.minimum(np.floor(place).astype(np.int64), max(size - 2, 0))
    part = place - first
    pixels = np.stack([first, np.minimum(first + 1, size - 1)])
    weights = np.where(away, 0, np.stack([1 - part, part]))
    slopes = np.where(moves, np.stack([-np.ones_like(part), np.ones_like(part)]), 0)
    return Taps(pixels, weights, slopes)


@layers.register("NonMaxSuppression")
class NonMaxSuppression(Layer):
    """The best boxes of each class that do not cover each other: ``(N, T, B, 4)`` and ``(N, T, K, B)`` to ``(N, R, 3)``, int64.

    A row is the number of an image of the T, a class of the K and a box of the B; images and classes come in order, boxes from
    the best on. There are as many rows as there can be, ``T * K * min(most, B)``; the last are -1 where fewer are kept.

    Parameters
    ----------
    most : int
        Boxes for each class, at most.
    overlap : float
        Boxes that share more than this part of their union with a better one go.
    threshold : float or None
        Boxes that score no more than this go.
    centred : bool
        Whether a box is its middle and size, ``x, y, width, height``, instead of two corners ``y1, x1, y2, x2``.
    trimmed : bool
        Whether there are only as many rows as the fullest sample has, so that the shape depends on the numbers.
    expected : int or None
        How many rows models are planned with where it is `trimmed`; None: as many as there can be.

    Examples
    --------
    >>> import numpy as np
    >>> boxes = np.array([[[[0.0, 0.0, 1.0, 1.0], [0.0, 0.1, 1.0, 1.1], [0.0, 5.0, 1.0, 6.0]]]])
    >>> NonMaxSuppression(2, overlap=0.5)(boxes, np.array([[[[0.9, 0.8, 0.7]]]]))[0]
    array([[0, 0, 0],
           [0, 0, 2]])
    """

    def __init__(
        self,
        most: int = 1,
        *,
        overlap: float = 0.0,
        threshold: float | None = None,
        centred: bool = False,
        trimmed: bool = False,
        expected: int | None = None,
    ) -> None:
        self.expected = None if expected is None else positive(expected, "expected")
        self.most = positive(most, "most")
        self.overlap = number(overlap, "overlap", low=0.0, high=1.0)
        self.threshold = None if threshold is None else number(threshold, "threshold")
        self.centred, self.trimmed = bool(centred), bool(trimmed)

    @classmethod
    def examples(cls) -> Sequence[Any]:
        return [(cls(1), [(1, 1, 4), (1, 1, 1)])]

    @property
    def traits(self) -> Traits:
        return Traits(discrete=True, kinks="ties", counts=self.trimmed)

    def output_shape(self, *shapes: Shape) -> Shape:
        """Return the shape with as many rows as there can be."""
        fits = len(shapes) == 2 and len(shapes[0]) == len(shapes[1]) == 3
        if not fits or shapes[0] != (shapes[1][0], shapes[1][2], 4):
            raise ValueError(
                f"NonMaxSuppression takes (N, T, B, 4) and (N, T, K, B), got {' and '.join(map(with_batch, shapes))}"
            )
        rows = shapes[1][0] * shapes[1][1] * min(self.most, shapes[1][2])
        return (self.expected or rows if self.trimmed else rows, 3)

    def forward(self, ctx: Context, boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, Backward]:
        most, _ = self.output_shape(boxes.shape[1:], scores.shape[1:])
        require_floats(boxes, scores)
        if len(boxes) != len(scores):
            raise ValueError(f"the inputs must have one batch size, got {len(boxes)} and {len(scores)}")
        found = [self._rows(*sample) for sample in zip(boxes, scores, strict=True)]
        y = np.full((len(boxes), max(map(len, found), default=0) if self.trimmed else most, 3), -1, np.int64)
        for n, rows in enumerate(found):
            y[n, : len(rows)] = rows
        return y, lambda dy: ((np.zeros_like(boxes), np.zeros_like(scores)), {})

    def _rows(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the rows of one sample."""
        places = list(np.ndindex(*scores.shape[:2]))
        kept = [self._kept(boxes[t], scores[t, k]) for t, k in places]
        numbers = np.repeat(np.array(places, np.int64).reshape(-1, 2), list(map(len, kept)), axis=0)
        return np.column_stack([numbers, np.concatenate([*kept, np.zeros(0, np.int64)])])

    def _kept(self, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Return the boxes that stay of one class, the best first."""
        order = np.argsort(-scores, kind="stable")
        if self.threshold is not None:
            order = order[scores[order] > self.threshold]
        corners = self._corners(boxes[order])
        kept = np.concatenate([apart[kept_boxes(corners[apart], self.most, self.overlap)] for apart in _apart(corners)])
        return np.asarray(order[np.sort(kept)[: self.most]])

    def _corners(self, boxes: np.ndarray) -> np.ndarray:
        """Return the boxes as their least and their greatest corner."""
        if self.centred:
            middle, half = boxes[:, :2], boxes[:, 2:] / 2
            return np.concatenate([middle - half, middle + half], axis=1)
        return np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)

    def window(self, *shapes: Shape) -> None:
        return None


def _apart(corners: np.ndarray) -> list[np.ndarray]:
    """Return groups of boxes, each in order, that touch none of another, as those of several classes often."""
    if not len(corners):
        return [np.arange(0)]
    order = np.argsort(corners[:, 0], kind="stable")
    reach = np.maximum.accumulate(corners[order, 2])
    borders = 1 + np.flatnonzero(corners[order[1:], 0] > reach[:-1])
    return [np.sort(group) for group in np.split(order, borders)]
