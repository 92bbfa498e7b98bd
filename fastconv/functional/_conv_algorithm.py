"""Which algorithm computes a convolution, decided by a cost model: the one place where it is chosen.

``"depthwise"``
    One channel in and out a group: vectors run along the channels. Always best where it applies.
``"product"``
    The implicit matrix product: windows of the image times the weight, on the register tile. Everything can be done so.
``"winograd"``
    Minimal filtering: the same product on transformed tiles, with up to 4 times fewer multiplications. For kernels of 3 or 5
    taps with stride and dilation 1, and enough channels and pixels that the transforms pay.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fastconv.accuracy import is_exact

ALGORITHMS = ("product", "winograd", "depthwise")

#: The share of the peak that the register tile reaches on packed operands.
TILE_SHARE = 0.92

#: Cycles of one vector that a transform takes for each position of a tile: of inputs or outputs, and of weights.
TILE_TRANSFORM, WEIGHT_TRANSFORM = 11, 9

#: Winograd must promise so much less work, or the product keeps the call: the model is no better than that.
WORTH_IT = 0.85

#: The same in groups, which Winograd's kernels take one by one and the product together.
WORTH_IT_IN_GROUPS = 0.6

#: The channels that Winograd's kernels take, of the input and of the output: a vector of the widest instruction set at least,
#: and (with the taps along the first of three axes) so many at most that a row of transformed tiles fits in 8 MB.
FEWEST_CHANNELS, MOST_CHANNELS = 16, 2048

#: Channels that a task of the weight gradient takes on either side: it transforms the others' tiles again.
GRADIENT_CHANNELS = 128

#: Taps along an axis -> outputs of a tile along it: 6 products for 6 inputs. One tap is not transformed.
TILE_OUTPUTS = {1: 1, 3: 4, 5: 2}


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


class Algorithm(NamedTuple):
    """A choice, and what speaks for it."""

    name: str
    tile: tuple[int, int]  # outputs of a Winograd tile along h and w; (0, 0) for the other algorithms
    share: float  # expected rate of the definition's multiply-adds, as a share of the machine's peak
    why: str


def winograd_obstacle(problem: Problem) -> str | None:
    """Return why Winograd's algorithm cannot compute `problem`, in words, or None where it can."""
    taps, stride, dilation = problem.taps[1:], problem.stride[1:], problem.dilation[1:]
    if taps[1] not in (3, 5) or taps[0] not in (1, taps[1]):
        return f"it is for kernels of 3 or 5 taps along each axis (one tap along the first), not {taps[0]} x {taps[1]}"
    if stride != (1, 1):
        return f"it is for stride 1, not {' x '.join(map(str, stride))}"
    if any(d != 1 for d, t in zip(dilation, taps, strict=True) if t > 1):
        return f"it is for dilation 1, not {' x '.join(map(str, dilation))}"
    if problem.taps[0] * max(problem.depth, problem.cols) > MOST_CHANNELS:
        return f"it is for at most {MOST_CHANNELS} channels times taps along the first of three axes"
    for channels, of in ((problem.depth, "input"), (problem.cols, "output")):
        if channels < FEWEST_CHANNELS:
            return f"it is for at least {FEWEST_CHANNELS} channels a group, not {channels} of the {of}"
    return None


def winograd_cost(problem: Problem, *, weight_gradient: bool) -> float:
    """Return the work in multiply-adds at the machine's peak: products of transformed tiles, and the transforms."""
    tile = [TILE_OUTPUTS[taps] for taps in problem.taps[1:]]
    positions = math.prod(6 if outputs > 1 else 1 for outputs in tile)
    tiles = (
        problem.batch
        * problem.outputs[0]
        * math.prod(-(-size // outputs) for size, outputs in zip(problem.outputs[1:], tile, strict=True))
    )
    depth, cols = problem.taps[0] * problem.depth, problem.cols
    products = tiles * depth * cols / TILE_SHARE
    again = (1, 1)  # how often the tiles of the input and of the output are transformed
    if weight_gradient:
        again = (-(-cols // GRADIENT_CHANNELS), -(-depth // GRADIENT_CHANNELS))
    transforms = TILE_TRANSFORM * tiles * (again[0] * depth + again[1] * cols) + WEIGHT_TRANSFORM * depth * cols
    return problem.groups * positions * (products + transforms)


def wish(algorithm: object) -> str | None:
    """Return what `choose` is to go by at this moment: a call's `algorithm` checked, "exact", or None for the cheapest."""
    if algorithm is None:
        return "exact" if is_exact() else None
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be None or one of {', '.join(map(repr, ALGORITHMS))}, got {algorithm!r}")
    if algorithm == "winograd" and is_exact():
        raise ValueError("algorithm 'winograd' is forbidden within fastconv.precision(\"exact\")")
    return algorithm


def choose(problem: Problem, algorithm: str | None, *, weight_gradient: bool = False) -> Algorithm:
    """Return the algorithm for `problem`: the one asked for, or the cheapest; `algorithm` comes from `wish`.

    Raises `ValueError` for an algorithm that cannot compute the problem.
    """
    product = Algorithm("product", (0, 0), TILE_SHARE, "")
    if algorithm == "product":
        return product._replace(why="asked for")
    is_depthwise = problem.groups > 1 and problem.depth == problem.cols == 1
    if algorithm == "depthwise" and not is_depthwise:
        raise ValueError(
            f"algorithm 'depthwise' is for groups of one channel in and one out, got {problem.groups} "
            f"{'group' if problem.groups == 1 else 'groups'} of {problem.depth} and {problem.cols}"
        )
    if is_depthwise and algorithm != "winograd":
        return Algorithm("depthwise", (0, 0), 0.3, "one channel in and one out a group")
    obstacle = winograd_obstacle(problem)
    if algorithm == "winograd" and obstacle:
        raise ValueError(f"algorithm 'winograd' cannot compute this convolution: {obstacle}")
    if obstacle or not problem.multiply_adds:
        return product._replace(why=f"Winograd's algorithm does not apply: {obstacle or 'nothing to compute'}")
    work, direct = winograd_cost(problem, weight_gradient=weight_gradient), problem.multiply_adds / TILE_SHARE
    share = problem.multiply_adds / work
    tile = (TILE_OUTPUTS[problem.taps[1]], TILE_OUTPUTS[problem.taps[2]])
    if algorithm == "winograd":
        return Algorithm("winograd", tile, share, "asked for")
    saving = f"Winograd's algorithm would take {work / direct:.0%} of the product's time"
    if algorithm == "exact":
        return product._replace(why=f'precision is "exact" ({saving})')
    if work > (WORTH_IT if problem.groups == 1 else WORTH_IT_IN_GROUPS) * direct:
        return product._replace(why=f"{saving}: the transforms do not pay")
    return Algorithm("winograd", tile, share, f"{saving.replace('would take', 'takes')}")
