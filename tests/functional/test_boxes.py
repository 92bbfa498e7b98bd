"""Boxes that stay, and means of cells, beside loops over the definition."""

import numpy as np
import pytest

from fastconv import layers as L
from fastconv.functional._boxes import kept_boxes
from fastconv.layers.context import Context


def overlap_of(one, other):
    height, width = (min(one[2 + i], other[2 + i]) - max(one[i], other[i]) for i in (0, 1))
    shared = max(height, 0) * max(width, 0)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)) - shared
    return shared / both if both > 0 else 0


@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_a_box_goes_that_a_better_one_covers(isa, overlap):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 6, (60, 4))
    corners[:, 2:] = corners[:, :2] + rng.uniform(0, 3, (60, 2))
    corners[7] = corners[3]
    kept = []
    for at, box in enumerate(corners):
        if all(overlap_of(box, corners[other]) <= overlap for other in kept):
            kept.append(at)
    np.testing.assert_array_equal(kept_boxes(corners, 60, overlap), kept)
    np.testing.assert_array_equal(kept_boxes(corners, 5, overlap), kept[:5])


def test_no_boxes_and_boxes_that_are_no_numbers():
    assert kept_boxes(np.zeros((0, 4)), 3, 0.5).tolist() == []
    corners = np.array([[0.0, 0.0, np.nan, 1.0], [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, np.inf, np.inf]])
    assert kept_boxes(corners, 3, 0.5).tolist() == [0, 1, 2]


def between(image, y, x):
    """Return what the image is between four pixels; nothing far outside."""
    height, width, channels = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(channels)
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    i, j = int(y), int(x)
    below, right = min(i + 1, height - 1), min(j + 1, width - 1)
    a, b = y - i, x - j
    upper, lower = ((1 - b) * image[k, j] + b * image[k, right] for k in (i, below))
    return (1 - a) * upper + a * lower


@pytest.mark.parametrize(("samples", "half_pixel"), [(2, True), (3, False), (0, True), (0, False)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cells_are_the_means_of_their_points(isa, dtype, samples, half_pixel):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 9, 11, 19)).astype(dtype)
    boxes, images = rng.uniform(-6, 24, (1, 70, 4)).astype(dtype), rng.integers(-2, 2, (1, 70))
    layer = L.RoiAlign([2, 3], samples=samples, scale=0.5, half_pixel=half_pixel)
    y, _ = layer.forward(Context(inference=True), x, boxes, images)
    want = np.zeros(y.shape)
    for r in range(70):
        (above, across), (left, along) = (axis_of(boxes[0, r], at, half_pixel) for at in (1, 0))
        counts = [samples or max(int(np.ceil(n / cells)), 0) for n, cells in ((across, 2), (along, 3))]
        for p, q in np.ndindex(2, 3):
            points = [
                between(
                    x[0, images[0, r]],
                    above + across * (p + (i + 0.5) / counts[0]) / 2,
                    left + along * (q + (j + 0.5) / counts[1]) / 3,
                )
                for i, j in np.ndindex(*counts)
            ]
            want[0, r, p, q] = np.mean(points, axis=0) if points else 0
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-5 if dtype == np.float32 else 1e-12)


def axis_of(box, at, half_pixel):
    """Return where a box begins in pixels, and how long it is there."""
    start, end = (float(box[i]) * 0.5 - 0.5 * half_pixel for i in (at, at + 2))
    return start, end - start if half_pixel else max(end - start, 1.0)
