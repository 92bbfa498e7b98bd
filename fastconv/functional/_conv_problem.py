"""What the choice of a convolution's algorithm depends on, and what Winograd's algorithm makes of it: tiles, images, phases."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

#: Channels of a vector of the widest instruction set. What a group computes takes whole vectors, whatever the algorithm.
VECTOR = 16

#: The channels of the input that Winograd's kernels take, at least: with fewer the image is folded.
FEWEST_CHANNELS = VECTOR


class Problem(NamedTuple):
    """One pass of a convolution, as three axes (d, h, w): what the choice depends on."""

    batch: int
    outputs: tuple[int, ...]
    taps: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    depth: int  # channels that a group sums over
    cols: int  # channels that a group computes
    groups: int
    multiply_adds: int  # of the definition
    inside: float = 1.0  # the share of them that see no padding


def is_folded(problem: Problem) -> bool:
    """Return whether Winograd's algorithm takes `problem` for an image that it folds (fold.pxi)."""
    return max(problem.stride[1:]) > 1 and problem.depth < FEWEST_CHANNELS


def folded(problem: Problem) -> Problem:
    """Return the problem of the folded image, whose stride is 1; what is not folded as it is."""
    if not is_folded(problem):
        return problem
    depth = math.prod(problem.stride[1:]) * problem.depth
    return problem._replace(taps=(problem.taps[0], *taps_of(problem)), stride=(1, 1, 1), depth=depth)


def taps_of(problem: Problem) -> tuple[int, int]:
    """Return the most taps along h and w that see one of the images that a stride makes: what is transformed."""
    h, w = (-(-count // stride) for count, stride in zip(problem.taps[1:], problem.stride[1:], strict=True))
    return h, w


def images_of(problem: Problem) -> int:
    """Return how many images of every so many pixels a stride makes that some tap sees."""
    return math.prod(min(pair) for pair in zip(problem.taps[1:], problem.stride[1:], strict=True))


def phases(problem: Problem) -> list[Problem]:
    """Return the problems of stride 1 that an adjoint consists of: each writes every so many pixels.

    Those along the first of three axes count as one, for their taps are summed alike.
    """
    axes = [
        [(-(-(size - i) // stride), -(-(taps - i) // stride)) for i in range(min(stride, taps, size))]
        for size, taps, stride in zip(problem.outputs[1:], problem.taps[1:], problem.stride[1:], strict=True)
    ]
    planes = -(-problem.outputs[0] // problem.stride[0])
    parts = []
    for h, w in itertools.product(*axes):
        part = problem._replace(stride=(1, 1, 1), outputs=(planes, h[0], w[0]), taps=(problem.taps[0], h[1], w[1]))
        pairs = problem.batch * part.groups * part.depth * part.cols
        parts.append(part._replace(multiply_adds=pairs * math.prod(part.outputs) * math.prod(part.taps)))
    return parts


def points_of(problem: Problem, tile: tuple[int, int]) -> list[int]:
    """Return the points of a tile along h and w."""
    return [taps + outputs - 1 for taps, outputs in zip(taps_of(problem), tile, strict=True)]


def products_of(problem: Problem, tile: tuple[int, int]) -> int:
    """Return the products for each tile, channel and column: at infinity those taps that some images do not have are zero."""
    along = zip(problem.taps[1:], problem.stride[1:], tile, strict=True)
    return math.prod(
        sum(outputs - 1 - (first - taps) // stride for first in range(min(stride, taps)))
        for taps, stride, outputs in along
    )


def tiles_along(size: int, outputs: int, dilation: int) -> int:
    """Return the tiles of an axis: of all the images that a dilation interleaves, the first of which have a pixel more."""
    if outputs == 1:
        return size
    pixels, longer = divmod(size, dilation)
    return longer * -(-(pixels + 1) // outputs) + (dilation - longer) * -(-pixels // outputs)


def whole_vectors(cols: int, lanes: int = VECTOR) -> int:
    """Return the channels that are computed where `cols` are asked for."""
    return -(-cols // lanes) * lanes
