"""What a convolution costs by each algorithm, in multiply-adds at the machine's peak: the model that `choose` goes by."""

from __future__ import annotations

import math

from fastconv.functional._conv_problem import (
    VECTOR,
    Problem,
    folded,
    images_of,
    is_folded,
    phases,
    points_of,
    products_of,
    taps_of,
    tiles_along,
    whole_vectors,
)

#: The share of the peak that the register tile reaches on packed operands.
TILE_SHARE = 0.92

#: The same where groups of fewer channels than GROUPED are computed together (grouped.pxi), in tiles less wide.
GROUPED_SHARE, GROUPED = 0.8, 64

#: The points of the larger tiles along an axis.
NINE = 9

#: Cycles of one vector that a transform of inputs or outputs takes for each position of a tile, with six or nine points.
TILE_TRANSFORM = {6: 10, NINE: 15}

#: Multiply-adds in the time in which a number of a transformed weight is made, where they are few and where all come from
#: memory: forward, by the adjoint, which turns the weight, and of a gradient, whose sums are written and read again.
FORWARD_WEIGHT, ADJOINT_WEIGHT, GRADIENT_WEIGHT = (5, 11), (5.5, 16.5), (14, 32)

#: How many these are that all come from memory.
FAR_WEIGHT = 12_000_000

#: The same where the transform is not compiled for the sizes of the taps, and of a weight that was laid in order before.
OTHER_WEIGHT, ORDERED_WEIGHT = 16, 6

FLOAT_BYTES = 4

#: Multiply-adds in the time in which a number of a folded image is written.
FOLDED = 8

#: Rows of a product that are lost where its last tile is not full.
PART_OF_TILE = 1.5

#: Channels that could be multiplied in the time in which the products of one of the images of a stride are added to the others.
ADDED_IMAGE = 4

#: Multiply-adds in the time in which a number of a weight is read that was transformed before (a frozen model's): those of all
#: layers together are in no near cache. A larger tile has more of them.
WEIGHT_READ = 12

#: Bytes of the largest transformed weight that is kept (winograd.pxi): reading a larger one from memory takes as long as making
#: it of the few numbers that it comes from, which frozen models do at each call.
MOST_TRANSFORMED = 6 * 2**20

#: What leaving out padding costs, as a share of all multiply-adds.
CUT = 0.05

#: Bytes of a packed weight that is kept; a larger one would take more memory than it saves time.
MOST_PACKED = 16 * 2**20

#: Multiply-adds in the time in which a gradient of the weight waits for a cache line of one group, where x and dy together have
#: more bytes than the last cache keeps: groups jump from pixel to pixel.
FAR_LINE, FAR_BYTES = 600, 16 * 2**20

#: Multiply-adds in the time in which a run of a pixel is added to what others have, where products are scattered (scatter.pxi).
ADDED = 48

#: The shares of the peak that a product to few columns reaches: scattered (adding apart), and with vectors across the channels.
SCATTERED_SHARE, ACROSS_SHARE = 0.74, 0.6

#: Taps along the line that vectors across the channels are for, and the outputs of a line that they need (across.pxi).
ACROSS_TAPS, ACROSS_LINE = (3, 5), 3 * VECTOR // 4

#: The share of the peak that a gradient of the weight reaches where x and dy change roles, multiply-adds in the time that each
#: pixel takes besides, and in that in which the result is turned and looked at.
EXCHANGED_SHARE, EXCHANGED_PIXEL, EXCHANGED_CALL = 0.85, 600, 250_000

#: Strassen's algorithm, twice: the share of the products that is left, the pixels of a block, and how many of a quarter of it
#: fill a tile (strassen.pxi).
STRASSEN_PRODUCTS, STRASSEN_ROWS, STRASSEN_HALF = 49 / 64, 56, 7

#: The most channels that it sums over at once.
STRASSEN_DEPTH = 4 * 288

#: Multiply-adds in the time in which its sums are made: for each number of the input, of the output and of the weight. The last
#: for frozen models too, in which they come from memory, or the weight: they are three times as many to read.
STRASSEN_INPUT, STRASSEN_OUTPUT, STRASSEN_WEIGHT, STRASSEN_WEIGHT_KEPT = 12, 22, 20, 60

#: Channels that a task of the weight gradient takes on either side: it transforms the others' tiles again.
GRADIENT_CHANNELS = 128


def product_cost(problem: Problem, *, weight_gradient: bool) -> float:
    """Return the work of the product in multiply-adds at the machine's peak.

    Groups of few channels share vectors, and half of one is enough forward. Few columns have vectors across the channels, or
    are scattered where that is less: each weight of the kernel is one then. Much padding is left out (cells.pxi), but not from
    the gradients of the weight of such groups.
    """
    counted = problem.multiply_adds * min(1.0, problem.inside + CUT) / TILE_SHARE
    direct = counted * whole_vectors(problem.cols) / problem.cols
    if problem.groups > 1:
        return _grouped_cost(problem, counted, direct, weight_gradient=weight_gradient)
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


def _grouped_cost(problem: Problem, counted: float, direct: float, *, weight_gradient: bool) -> float:
    """Return the work of a product in groups, of which `counted` is done at the tile's share and `direct` in whole vectors."""
    if problem.cols >= GROUPED:
        return direct if weight_gradient else counted
    if not weight_gradient:
        return counted * TILE_SHARE / GROUPED_SHARE
    full = whole_vectors(problem.cols) / problem.cols if problem.cols >= VECTOR else 1
    return problem.multiply_adds * full / GROUPED_SHARE


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


def winograd_cost(
    problem: Problem, tile: tuple[int, int], *, weight_gradient: bool, kept: bool, adjoint: bool = False
) -> float:
    """Return the work in multiply-adds at the machine's peak: products of transformed tiles, and the transforms."""
    folding = 0.0
    if is_folded(problem):
        problem = folded(problem)
        folding = FOLDED * problem.batch * math.prod(problem.outputs) * whole_vectors(problem.depth)
    points = points_of(problem, tile)
    along = zip(problem.outputs[1:], tile, problem.dilation[1:], strict=True)
    tiles = problem.batch * problem.outputs[0] * math.prod(tiles_along(*axis) for axis in along)
    depth, cols = problem.taps[0] * problem.depth, whole_vectors(problem.cols)
    images = images_of(problem)
    added = ADDED_IMAGE if images > 1 else 0
    products = (tiles + PART_OF_TILE) * (depth + added) * cols * products_of(problem, tile) / TILE_SHARE
    depth *= images
    again = (1, 1)  # how often the tiles of the input and of the output are transformed
    if weight_gradient:
        each = -(-problem.taps[0] * problem.depth // GRADIENT_CHANNELS)
        again = (-(-cols // GRADIENT_CHANNELS), images * each)
    vectors = tiles * (again[0] * whole_vectors(depth) + again[1] * cols)
    transforms = TILE_TRANSFORM[max(points)] * math.prod(points) * vectors
    numbers = problem.groups * math.prod(points) * depth * cols
    of_weight = _weight_cost(problem, numbers, weight_gradient=weight_gradient, kept=kept, adjoint=adjoint)
    far = far_cost(problem) if weight_gradient else 0.0
    return problem.groups * (products + transforms) + of_weight + folding + far


def _weight_cost(problem: Problem, numbers: int, *, weight_gradient: bool, kept: bool, adjoint: bool) -> float:
    """Return the work in the time in which a transformed weight of so many numbers is made, or read."""
    if kept and not adjoint:
        return numbers * (WEIGHT_READ if numbers * FLOAT_BYTES <= MOST_TRANSFORMED else ORDERED_WEIGHT)
    if taps_of(problem) != (3, 3) and not weight_gradient:
        return numbers * OTHER_WEIGHT
    near, far = GRADIENT_WEIGHT if weight_gradient else ADJOINT_WEIGHT if adjoint else FORWARD_WEIGHT
    return numbers * (near + (far - near) * min(numbers / FAR_WEIGHT, 1))


def strassen_cost(problem: Problem, *, kept: bool) -> float:
    """Return the work of a product of one tap by Strassen's algorithm: 49 products of quarters, and the sums."""
    pixels = math.prod(problem.outputs)
    height = -(-(pixels % STRASSEN_ROWS) // 4)  # of the last block of an image
    lost = PART_OF_TILE if height % STRASSEN_HALF else 0.0
    rows = problem.batch * (pixels // STRASSEN_ROWS * STRASSEN_ROWS + 4 * (height + lost))
    products = rows * problem.depth * problem.cols * STRASSEN_PRODUCTS / TILE_SHARE
    parts = -(-problem.depth // STRASSEN_DEPTH)
    sums = rows * (STRASSEN_INPUT * problem.depth + STRASSEN_OUTPUT * problem.cols * parts)
    return products + sums + (STRASSEN_WEIGHT_KEPT if kept else STRASSEN_WEIGHT) * problem.depth * problem.cols


def far_cost(problem: Problem) -> float:
    """Return the work in the time in which a gradient of the weight in groups waits for memory."""
    channels = whole_vectors(problem.depth) + whole_vectors(problem.cols)
    numbers = problem.batch * math.prod(problem.outputs) * problem.groups * channels
    return FAR_LINE * numbers / VECTOR if problem.groups > 1 and numbers * FLOAT_BYTES > FAR_BYTES else 0.0


def adjoint_cost(problem: Problem, tile: tuple[int, int], *, kept: bool) -> float:
    """Return the work of an adjoint: of each phase with as many points, those with one tap are products."""
    most, cost = taps_of(problem), 0.0
    for part in phases(problem):
        if part.taps[1:] == (1, 1):
            cost += product_cost(part, weight_gradient=False)
        else:
            each = zip(tile, most, part.taps[1:], strict=True)
            h, w = (outputs + many - few if few > 1 else 1 for outputs, many, few in each)
            cost += winograd_cost(part, (h, w), weight_gradient=False, kept=kept, adjoint=True)
    return cost
