"""Which algorithm computes a convolution, decided by a cost model: the one place where it is chosen.

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
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from fastconv.accuracy import is_exact

ALGORITHMS = ("product", "winograd", "depthwise")

#: The share of the peak that the register tile reaches on packed operands.
TILE_SHARE = 0.92

#: The same forward where groups of fewer channels than GROUPED are computed together (grouped.pxi), in tiles less wide.
GROUPED_SHARE, GROUPED = 0.8, 64

#: The points of the larger tiles along an axis.
NINE = 9

#: Cycles of one vector that a transform of inputs or outputs takes for each position of a tile, with six or nine points.
TILE_TRANSFORM = {6: 10, NINE: 15}

#: The same of a weight of 3 x 3 taps, or of a gradient, and of others, whose transform is not compiled for its sizes.
WEIGHT_TRANSFORM, OTHER_WEIGHT_TRANSFORM = 6, 16

FLOAT_BYTES = 4

#: Multiply-adds in the time in which a number of a folded image is written.
FOLDED = 8

#: The most that is folded, so that scratch stays within its bound (fold.pxi): channels of a pixel, numbers of a transformed
#: weight, and those that one line of tiles sees.
MOST_FOLDED_CHANNELS, MOST_FOLDED_WEIGHT, MOST_FOLDED_LINES = 128, 700_000, 3 * 2**16

#: Rows of a product that are lost where its last tile is not full.
PART_OF_TILE = 1.5

#: Channels that could be multiplied in the time in which the products of one of the images of a stride are added to the others.
ADDED_IMAGE = 4

#: Multiply-adds in the time in which a number of a weight is read that was transformed before (a frozen model's): those of all
#: layers together are in no near cache. A larger tile has more of them.
WEIGHT_READ = 12

#: What leaving out padding costs, as a share of all multiply-adds.
CUT = 0.05

#: Bytes of a packed or transformed weight that is kept; a larger one would take more memory than it saves time.
MOST_PACKED = 16 * 2**20

#: Multiply-adds in the time in which a gradient of the weight waits for a cache line of one group, where x and dy together have
#: more bytes than the last cache keeps: groups jump from pixel to pixel.
FAR_LINE, FAR_BYTES = 600, 16 * 2**20

#: Winograd must promise so much less work, or the product keeps the call: the model is no better than that, and a product whose
#: weight was packed before does better than it says.
WORTH_IT, WORTH_IT_KEPT = 0.95, 0.85

#: The same with a dilation, where tiles are of many small images.
WORTH_IT_DILATED = 0.75

#: The same with a stride, where caches hold less of the many transformed weights.
WORTH_IT_STRIDED = 0.8

#: Channels of a vector of the widest instruction set. What a group computes takes whole vectors, whatever the algorithm.
VECTOR = 16

#: Multiply-adds in the time in which a run of a pixel is added to what others have, where products are scattered (scatter.pxi).
ADDED = 48

#: The shares of the peak that a product to few columns reaches: scattered (adding apart), and with vectors across the channels.
SCATTERED_SHARE, ACROSS_SHARE = 0.74, 0.6

#: Taps along the line that vectors across the channels are for, and the outputs of a line that they need (across.pxi).
ACROSS_TAPS, ACROSS_LINE = (3, 5), 3 * VECTOR // 4

#: The share of the peak that a gradient of the weight reaches where x and dy change roles, multiply-adds in the time that each
#: pixel takes besides, and in that in which the result is turned and looked at.
EXCHANGED_SHARE, EXCHANGED_PIXEL, EXCHANGED_CALL = 0.85, 600, 250_000

#: The channels that Winograd's kernels take: a vector of the input's at least, and (with the taps along the first of three
#: axes) so many at most that enough transformed tiles fit in the caches.
FEWEST_CHANNELS, MOST_CHANNELS = VECTOR, 2048

#: Channels that a task of the weight gradient takes on either side: it transforms the others' tiles again.
GRADIENT_CHANNELS = 128

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


class Algorithm(NamedTuple):
    """A choice, and what speaks for it."""

    name: str
    tile: tuple[int, int]  # outputs of a Winograd tile along h and w; (0, 0) for the other algorithms
    share: float  # expected rate of the definition's multiply-adds, as a share of the machine's peak
    why: str


def is_folded(problem: Problem) -> bool:
    """Return whether Winograd's algorithm takes `problem` for an image that it folds (fold.pxi)."""
    return max(problem.stride[1:]) > 1 and problem.depth < FEWEST_CHANNELS


def folded(problem: Problem) -> Problem:
    """Return the problem of the folded image, whose stride is 1; what is not folded as it is."""
    if not is_folded(problem):
        return problem
    depth = math.prod(problem.stride[1:]) * problem.depth
    return problem._replace(taps=(problem.taps[0], *_taps(problem)), stride=(1, 1, 1), depth=depth)


def _taps(problem: Problem) -> tuple[int, int]:
    """Return the most taps along h and w that see one of the images that a stride makes: what is transformed."""
    h, w = (-(-count // stride) for count, stride in zip(problem.taps[1:], problem.stride[1:], strict=True))
    return h, w


def _images(problem: Problem) -> int:
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
    taps = _taps(problem)
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
    return problem.taps[0] * _images(problem) * (max(problem.depth, problem.cols) if weight_gradient else problem.depth)


def possible_tiles(problem: Problem, *, weight_gradient: bool) -> list[tuple[int, int]]:
    """Return the tiles that the kernels have for the taps and the channels of `problem`."""
    tiles = (GRADIENT_TILES if weight_gradient else TILES).get(_taps(problem), ())
    few = _channels(problem, weight_gradient) <= MOST_CHANNELS_NINE
    return [tile for tile in tiles if few or max(points_of(problem, tile)) < NINE]


def points_of(problem: Problem, tile: tuple[int, int]) -> list[int]:
    """Return the points of a tile along h and w."""
    return [taps + outputs - 1 for taps, outputs in zip(_taps(problem), tile, strict=True)]


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


def product_cost(problem: Problem, *, weight_gradient: bool) -> float:
    """Return the work of the product in multiply-adds at the machine's peak.

    Groups of few channels share vectors, and half of one is enough forward. Few columns have vectors across the channels, or
    are scattered where that is less: each weight of the kernel is one then. Much padding is left out (cells.pxi).
    """
    counted = problem.multiply_adds * min(1.0, problem.inside + CUT) / TILE_SHARE
    direct = counted * whole_vectors(problem.cols) / problem.cols
    if problem.groups > 1:
        if weight_gradient:
            return direct if problem.cols >= VECTOR else counted
        return counted * TILE_SHARE / GROUPED_SHARE if problem.cols < GROUPED else counted
    if weight_gradient:
        return min(direct, exchanged_cost(problem))
    if 2 * problem.cols > VECTOR:
        return direct
    if _goes_across(problem):
        return problem.multiply_adds / ACROSS_SHARE
    rows, cols = problem.taps[1:]
    columns = whole_vectors(rows * cols * problem.cols)
    pixels = problem.multiply_adds / (rows * cols * problem.cols * problem.depth)  # of y, whichever way it goes
    return min(direct, pixels * (columns * problem.depth / SCATTERED_SHARE + ADDED * rows * (cols + 2)))


def _goes_across(problem: Problem) -> bool:
    """Return whether a product to few columns has vectors across the channels of the input."""
    return (
        2 * problem.cols < VECTOR
        and problem.depth % VECTOR == 0
        and problem.outputs[0] == problem.taps[0] == 1
        and problem.taps[2] in ACROSS_TAPS
        and problem.stride[2] == problem.dilation[2] == 1
        and problem.outputs[2] >= ACROSS_LINE
    )


def exchanged_cost(problem: Problem) -> float:
    """Return the work of a gradient of the weight in which x and dy change roles, infinity where that is out of the question.

    With stride 1 it is that of the convolution of dy whose outputs are x, taps in reverse: full vectors of the channels of x.
    """
    few = problem.groups == 1 and problem.cols < VECTOR <= problem.depth
    if not few or max(problem.stride) > 1 or problem.dilation[2] > 1:
        return math.inf
    each = math.prod(problem.taps) * problem.cols * whole_vectors(problem.depth) / EXCHANGED_SHARE + EXCHANGED_PIXEL
    return problem.batch * math.prod(problem.outputs) * each + EXCHANGED_CALL


def exchanges_from(problem: Problem) -> int | None:
    """Return the lanes of a vector from which on x and dy change roles where a gradient of the weight is a product.

    With one tap the kernel does so by itself.
    """
    if math.prod(problem.taps) == 1:
        return None
    for lanes in (2, 4, 8, VECTOR):
        direct = problem.multiply_adds * whole_vectors(problem.cols, lanes) / (max(problem.cols, 1) * TILE_SHARE)
        if exchanged_cost(problem) <= direct:
            return lanes
    return None


def winograd_cost(problem: Problem, tile: tuple[int, int], *, weight_gradient: bool, kept: bool) -> float:
    """Return the work in multiply-adds at the machine's peak: products of transformed tiles, and the transforms."""
    folding = 0.0
    if is_folded(problem):
        problem = folded(problem)
        folding = FOLDED * problem.batch * math.prod(problem.outputs) * whole_vectors(problem.depth)
    points = points_of(problem, tile)
    along = zip(problem.outputs[1:], tile, problem.dilation[1:], strict=True)
    tiles = problem.batch * problem.outputs[0] * math.prod(tiles_along(*axis) for axis in along)
    depth, cols = problem.taps[0] * problem.depth, whole_vectors(problem.cols)
    images = _images(problem)
    added = ADDED_IMAGE if images > 1 else 0
    products = (tiles + PART_OF_TILE) * (depth + added) * cols * products_of(problem, tile) / TILE_SHARE
    depth *= images
    again = (1, 1)  # how often the tiles of the input and of the output are transformed
    if weight_gradient:
        each = -(-problem.taps[0] * problem.depth // GRADIENT_CHANNELS)
        again = (-(-cols // GRADIENT_CHANNELS), images * each)
    vectors = tiles * (again[0] * whole_vectors(depth) + again[1] * cols)
    fits = problem.groups * math.prod(points) * depth * cols * FLOAT_BYTES <= MOST_PACKED
    compiled = weight_gradient or _taps(problem) == (3, 3)
    of_weight = WEIGHT_TRANSFORM if compiled else OTHER_WEIGHT_TRANSFORM
    far = far_cost(problem) if weight_gradient else 0.0
    transforms = TILE_TRANSFORM[max(points)] * vectors + (WEIGHT_READ if kept and fits else of_weight) * depth * cols
    return problem.groups * (products + math.prod(points) * transforms) + folding + far


def far_cost(problem: Problem) -> float:
    """Return the work in the time in which a gradient of the weight in groups waits for memory."""
    channels = whole_vectors(problem.depth) + whole_vectors(problem.cols)
    numbers = problem.batch * math.prod(problem.outputs) * problem.groups * channels
    return FAR_LINE * numbers / VECTOR if problem.groups > 1 and numbers * FLOAT_BYTES > FAR_BYTES else 0.0


def adjoint_cost(problem: Problem, tile: tuple[int, int], *, kept: bool) -> float:
    """Return the work of an adjoint: of each phase with as many points, those with one tap are products."""
    most, cost = _taps(problem), 0.0
    for part in phases(problem):
        if part.taps[1:] == (1, 1):
            cost += product_cost(part, weight_gradient=False)
        else:
            each = zip(tile, most, part.taps[1:], strict=True)
            h, w = (outputs + many - few if few > 1 else 1 for outputs, many, few in each)
            cost += winograd_cost(part, (h, w), weight_gradient=False, kept=kept)
    return cost


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
    if algorithm == "winograd" and is_exact():
        raise ValueError("algorithm 'winograd' is forbidden within fastconv.precision(\"exact\")")
    return algorithm


def _worth_it(problem: Problem, kept: bool) -> float:
    """Return the share of the product's work that Winograd's algorithm may take."""
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

    Raises `ValueError` for an algorithm that cannot compute the problem; if not `strict`, Winograd's gives way to the product.
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
    obstacle = winograd_obstacle(problem, weight_gradient=weight_gradient, adjoint=adjoint)
    if algorithm == "winograd" and obstacle and strict:
        raise ValueError(f"algorithm 'winograd' cannot compute this convolution: {obstacle}")
    if obstacle or not problem.multiply_adds:
        return product._replace(why=f"Winograd's algorithm does not apply: {obstacle or 'nothing to compute'}")
    kept = algorithm == "kept"
    work, tile = cheapest_tile(problem, weight_gradient=weight_gradient, adjoint=adjoint, kept=kept)
    direct = product_cost(problem, weight_gradient=weight_gradient)
    share = problem.multiply_adds / work
    if algorithm == "winograd":
        return Algorithm("winograd", tile, share, "asked for")
    saving = f"Winograd's algorithm would take {work / direct:.0%} of the product's time"
    if algorithm == "exact":
        return product._replace(why=f'precision is "exact" ({saving})')
    if work > _worth_it(problem, kept) * direct:
        return product._replace(why=f"{saving}: the transforms do not pay")
    return Algorithm("winograd", tile, share, f"{saving.replace('would take', 'takes')}")
