"""Which algorithm computes a convolution, decided by a cost model (`_conv_cost`): the one place where it is chosen.

``"depthwise"``
    One channel in and out a group: vectors run along the channels. Always best where it applies.
``"product"``
    The implicit matrix product: windows of the image times the weight, on the register tile. Everything can be done so.
``"winograd"``
    Minimal filtering: the same product on transformed tiles, with up to 7 times fewer multiplications. For kernels of 2, 3, 4,
    5 or 7 taps along both axes, or 2, 3, 5 or 7 along one of them, and enough channels and pixels that the transforms pay. Of
    two sizes of a tile the one that costs less, counting what it computes beyond the edge of the image. A dilation interleaves
    images, each of which has tiles of its own. So does a stride, whose images are summed over, with a part of the taps each: 3
    taps, with stride 2, are two and one. Few channels are folded first: squares of pixels become pixels of more channels, and
    11 taps, with stride 4, become three.
``"strassen"``
    The product of one tap with 49 multiplications for 64: quarters of the pixels and channels are added up first. For whole
    vectors of channels in each quarter, and enough of them that the sums pay.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fastconv.accuracy import is_exact
from fastconv.functional._conv_cost import NINE, TILE_SHARE, adjoint_cost, product_cost, strassen_cost, winograd_cost
from fastconv.functional._conv_problem import (
    FEWEST_CHANNELS,
    VECTOR,
    Problem,
    folded,
    images_of,
    is_folded,
    points_of,
    taps_of,
    whole_vectors,
)

ALGORITHMS = ("product", "winograd", "strassen", "depthwise")

#: Those that round more than the definition does, for fewer multiplications.
FAST = ("winograd", "strassen")

#: The most that is folded, so that scratch stays within its bound (fold.pxi): channels of a pixel, numbers of a transformed
#: weight, and those that one line of tiles sees.
MOST_FOLDED_CHANNELS, MOST_FOLDED_WEIGHT, MOST_FOLDED_LINES = 128, 700_000, 3 * 2**16

#: Strassen's algorithm: a quarter of the columns is whole vectors, one of the channels that are summed over at least a vector.
STRASSEN_COLUMNS, STRASSEN_CHANNELS = 4 * VECTOR, 4

#: A fast algorithm must promise so much less work, or the product keeps the call: the model is no better than that, and a
#: product whose weight was packed before does better than it says.
WORTH_IT, WORTH_IT_KEPT = 0.95, 0.85

#: The same with a dilation, where tiles are of many small images.
WORTH_IT_DILATED = 0.75

#: The same with a stride, where caches hold less of the many transformed weights.
WORTH_IT_STRIDED = 0.8

#: The same of Strassen's algorithm, of which only sums that caches hold are a gain.
WORTH_IT_STRASSEN = 0.9

#: The most channels that Winograd's kernels take, times taps along the first of three axes: enough transformed tiles of more
#: would not fit in the caches.
MOST_CHANNELS = 2048

#: The most channels, times taps along the first of three axes, where a tile has nine points along an axis instead of six.
MOST_CHANNELS_NINE = 2048

#: Taps along h and w -> the tiles that the kernels have: outputs along h and w. One tap is not transformed.
TILES: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = {
    (2, 2): ((5, 5),),
    (3, 3): ((4, 4), (7, 7)),
    (4, 4): ((6, 6),),
    (5, 5): ((2, 2), (5, 5)),
    (7, 7): ((3, 3),),
    (1, 2): ((1, 5),),
    (1, 3): ((1, 4),),
    (1, 5): ((1, 2), (1, 5)),
    (1, 7): ((1, 3),),
    (2, 1): ((5, 1),),
    (3, 1): ((4, 1),),
    (5, 1): ((2, 1), (5, 1)),
    (7, 1): ((3, 1),),
}

#: The tiles that a gradient of the weight has.
GRADIENT_TILES: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = {
    (3, 3): ((4, 4),),
    (4, 4): ((3, 3),),
    (5, 5): ((2, 2),),
    (1, 3): ((1, 4),),
    (1, 5): ((1, 2),),
}


class Algorithm(NamedTuple):
    """A choice, and what speaks for it."""

    name: str
    tile: tuple[int, int]  # outputs of a Winograd tile along h and w, (1, 1) for Strassen's, (0, 0) for the others
    share: float  # expected rate of the definition's multiply-adds, as a share of the machine's peak
    why: str


def winograd_obstacle(problem: Problem, *, weight_gradient: bool = False, adjoint: bool = False) -> str | None:
    """Return why Winograd's algorithm cannot compute `problem`, in words, or None where it can."""
    stride, dilation = problem.stride[1:], problem.dilation[1:]
    if not adjoint and is_folded(problem) and (problem.groups > 1 or problem.taps[0] * problem.outputs[0] != 1):
        few = f"of fewer than {FEWEST_CHANNELS} channels a group"
        return f"in groups and along three axes, {few}, it is for stride 1, not {stride[0]} x {stride[1]}"
    if max(stride) > 1 and any(d != 1 for d, t in zip(dilation, problem.taps[1:], strict=True) if t > 1):
        return f"with a stride it is for dilation 1, not {' x '.join(map(str, dilation))}"
    is_small = is_folded(problem) and not adjoint
    problem = folded(problem) if is_small else problem
    taps = taps_of(problem)
    if taps not in TILES:
        kernels = "kernels of 2, 3, 4, 5 or 7 taps along both axes, or 2, 3, 5 or 7 along one of them"
        left = f", which is what a stride of {stride[0]} x {stride[1]} leaves" if max(stride) > 1 else ""
        return f"it is for {kernels}, not {taps[0]} x {taps[1]}{left}"
    if _channels(problem, weight_gradient) > MOST_CHANNELS:
        return f"it is for at most {MOST_CHANNELS} channels times taps along the first of three axes"
    if problem.depth < FEWEST_CHANNELS and not is_small:
        return f"it is for at least {FEWEST_CHANNELS} channels a group of the input, not {problem.depth}"
    if not possible_tiles(problem, weight_gradient=weight_gradient):
        return f"it has no tile for {'the gradient of such a weight' if weight_gradient else 'so many channels'}"
    return _folded_obstacle(problem) if is_small else None


def strassen_obstacle(problem: Problem, *, weight_gradient: bool = False, adjoint: bool = False) -> str | None:
    """Return why Strassen's algorithm cannot compute `problem`, in words, or None where it can."""
    if weight_gradient:
        return "it is not for the gradient of a weight"
    if math.prod(problem.taps) > 1 or problem.groups > 1 or (adjoint and max(problem.stride) > 1):
        return "it is for kernels of one tap, without groups, and backward for stride 1"
    if problem.inside < 1:
        return "it is for images without padding"
    if problem.depth % STRASSEN_CHANNELS or problem.cols % STRASSEN_COLUMNS or problem.depth < STRASSEN_COLUMNS:
        return (
            f"it sums over at least {STRASSEN_COLUMNS} channels, a multiple of {STRASSEN_CHANNELS}, for a multiple of "
            f"{STRASSEN_COLUMNS}, not {problem.depth} for {problem.cols}"
        )
    return None


def _folded_obstacle(problem: Problem) -> str | None:
    """Return why a folded problem would take too much scratch, or None where it does not."""
    tiles = TILES[problem.taps[1:]]
    transformed = (
        max(math.prod(points_of(problem, tile)) for tile in tiles) * problem.depth * whole_vectors(problem.cols)
    )
    lines = max(points_of(problem, tile)[0] for tile in tiles)
    if problem.depth > MOST_FOLDED_CHANNELS or transformed > MOST_FOLDED_WEIGHT:
        return (
            f"with a stride it is for at most {MOST_FOLDED_CHANNELS} channels times strides, and not too large a weight"
        )
    if lines * (problem.outputs[2] + problem.taps[2] - 1) * problem.depth > MOST_FOLDED_LINES:
        return "with a stride it is for lines of which it can fold a few at a time"
    return None


def _channels(problem: Problem, weight_gradient: bool) -> int:
    """Return the channels that count: those summed over, and for a gradient of the weight those of both sides."""
    return (
        problem.taps[0] * images_of(problem) * (max(problem.depth, problem.cols) if weight_gradient else problem.depth)
    )


def possible_tiles(problem: Problem, *, weight_gradient: bool) -> list[tuple[int, int]]:
    """Return the tiles that the kernels have for the taps and the channels of `problem`."""
    tiles = (GRADIENT_TILES if weight_gradient else TILES).get(taps_of(problem), ())
    few = _channels(problem, weight_gradient) <= MOST_CHANNELS_NINE
    return [tile for tile in tiles if few or max(points_of(problem, tile)) < NINE]


def cheapest_tile(
    problem: Problem, *, weight_gradient: bool, adjoint: bool, kept: bool
) -> tuple[float, tuple[int, int]]:
    """Return the cost and the outputs of the tile that costs least."""
    if adjoint:
        tiles = possible_tiles(problem, weight_gradient=False)
        return min((adjoint_cost(problem, tile, kept=kept), tile) for tile in tiles)
    tiles = possible_tiles(folded(problem), weight_gradient=weight_gradient)
    return min((winograd_cost(problem, tile, weight_gradient=weight_gradient, kept=kept), tile) for tile in tiles)


def wish(algorithm: object, *, kept: bool = False) -> str | None:
    """Return what `choose` is to go by at this moment: a call's `algorithm`, "exact", "kept", or None for the cheapest."""
    if algorithm is None:
        return "exact" if is_exact() else ("kept" if kept else None)
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm must be None or one of {', '.join(map(repr, ALGORITHMS))}, got {algorithm!r}")
    if algorithm in FAST and is_exact():
        raise ValueError(f'algorithm {algorithm!r} is forbidden within fastconv.precision("exact")')
    return algorithm


def _worth_it(problem: Problem, kept: bool) -> float:
    """Return the share of the product's work that a fast algorithm may take."""
    if math.prod(problem.taps) == 1:
        return WORTH_IT_STRASSEN
    if any(dilation > 1 and taps > 1 for dilation, taps in zip(problem.dilation, problem.taps, strict=True)):
        return WORTH_IT_DILATED
    if max(problem.stride[1:]) > 1 and not is_folded(problem):
        return WORTH_IT_STRIDED
    return WORTH_IT_KEPT if kept else WORTH_IT


def choose(
    problem: Problem,
    algorithm: str | None,
    *,
    weight_gradient: bool = False,
    adjoint: bool = False,
    strict: bool = True,
) -> Algorithm:
    """Return the algorithm for `problem`: the one asked for, or the cheapest; `algorithm` comes from `wish`.

    `adjoint`: a stride is not that of the windows, but puts zeros between them.

    "kept" is the cheapest one for a weight that is packed or transformed once for many calls.

    Raises `ValueError` for an algorithm that cannot compute the problem; if not `strict`, a fast one gives way to the product.
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
    kept = algorithm == "kept"
    if algorithm in FAST:
        name = algorithm
    else:
        name = "strassen" if math.prod(problem.taps) == 1 else "winograd"
    obstacle = OBSTACLES[name](problem, weight_gradient=weight_gradient, adjoint=adjoint)
    if algorithm == name and obstacle and strict:
        raise ValueError(f"algorithm {name!r} cannot compute this convolution: {obstacle}")
    if obstacle or not problem.multiply_adds:
        return product._replace(why=f"{name.title()}'s algorithm does not apply: {obstacle or 'nothing to compute'}")
    if name == "strassen":
        work, tile = strassen_cost(problem, kept=kept), (1, 1)
    else:
        work, tile = cheapest_tile(problem, weight_gradient=weight_gradient, adjoint=adjoint, kept=kept)
    direct = product_cost(problem, weight_gradient=weight_gradient)
    share = problem.multiply_adds / work
    if algorithm == name:
        return Algorithm(name, tile, share, "asked for")
    saving = f"{name.title()}'s algorithm would take {work / direct:.0%} of the product's time"
    if algorithm == "exact":
        return product._replace(why=f'precision is "exact" ({saving})')
    if work > _worth_it(problem, kept) * direct:
        return product._replace(why=f"{saving}: {'the sums do' if name == 'strassen' else 'the transforms do'} not pay")
    return Algorithm(name, tile, share, f"{saving.replace('would take', 'takes')}")


#: Why one of the fast algorithms cannot compute a problem.
OBSTACLES = {"winograd": winograd_obstacle, "strassen": strassen_obstacle}
