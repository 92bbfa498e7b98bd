"""The kernels: Cython source compiled once for each instruction set and dtype, and the choice among the results.

Contents:

===================  =================================================================================================
``memory.h``         memory for outputs: aligned to cache lines, large blocks are reused; ``_memory.pyx``
``signature.h``      the arguments of a call as one key; ``_memory.pyx`` too
``simd.h``           what C must define: the SIMD type of the instruction set being compiled, the size of its register tile
``simd.pxi``         the same for Cython; scratch memory
``tasks.pxi``        which thread takes which task of a loop: contiguous ranges first, then what others have left
``arrays.pxi``       the address of an array's data, faster than by a memoryview
``vector.pxi``       incomplete vectors; exp, log and erfc of vectors
``tile.pxi``         the register tile, where every multiply-add of a convolution or a linear layer happens
``panels.pxi``       tiles of any number of rows and columns
``window.pxi``       windows of an array packed as rows of a matrix, a block at a time
``product.pxi``      blocks of an implicit matrix product
``product_gradient.pxi``
                     and of the gradient of its right operand
``turned_gradient.pxi``
                     the same where tiles are low: what each reads of the windows is copied first
``winograd_points.pxi``
                     Winograd's minimal filtering along one axis: inputs and weights to their values at points, and back
``winograd_tiles.pxi``
                     tiles of two axes: where they lie, and what of an image with a stride each part of the sum sees
``winograd_transforms.pxi``
                     their transforms, and those of weights and outputs
``winograd.pxi``     convolution and its adjoint as products of transformed tiles, with up to seven times fewer multiplications
``winograd_gradient.pxi``
                     the gradient of the weight likewise
``fold.pxi``         both with a stride and few channels, over an image whose blocks of pixels are pixels of more channels
``strassen.pxi``     products of one tap, with 49 multiplications for 64: sums of quarters of both operands are multiplied
``cells.pxi``        skipping padding: a product cut where windows see other taps, a gradient tap by tap
``scatter.pxi``      the adjoint of a convolution with few input channels, and convolution to few, scattered pixel by pixel
``grouped.pxi``      convolution in groups of few channels, and its adjoint: groups share vectors, windows are found once
``grouped_tile.pxi``   their tile, along diagonals of the weight, if a group has as many outputs as inputs
``grouped_gradient_tile.pxi``
                     the gradient of its weight: what a strip of pixels adds to it
``grouped_gradient.pxi``
                     the panels, the pieces of large windows and the tasks around its tiles
``grouped_pixels.pxi``
                     grouped 1x1 convolution: pixels go through all groups, whose channels may be shuffled
``lines.pxi``        convolution of few channels over padded copies of lines
``lines_gradient.pxi``
                     the gradient of its weight, with vectors along the outputs
``runs_gradient.pxi``
                     the same with vectors along the runs of a window
``flat.pxi``         convolution with fewer outputs than half a vector: vectors run over pixels and channels together
``flat_gradient.pxi``
                     the gradient of its weight
``planar.pxi``       convolution to few channels, and the adjoint of one from few, with stride 1: vectors run along the line
``across.pxi``       the same if the input has whole vectors of channels: vectors run across them
``sums.pxi``         sums over rows: the gradient of a bias, and adding up partial sums
``dots.pxi``         products with few columns, of any taps, in groups or not: dot products along the channels
``few.pxi``          1x1 products from few channels, whose weight stays in registers
``few_gradient.pxi``
                     the gradient of the weight of 1x1 products with few channels on one side
``row.pxi``          products of one row, or a few and a large matrix: linear layers with one image or a small batch
``conv.pxi``         convolution forward and its adjoint (gradient of the input, transposed convolution)
``conv_gradient.pxi``
                     the gradient of a convolution's weight
``local.pxi``        locally connected layers: the same product with weights of its own at each position
``depthwise_tile.pxi``
                     one channel at a time: vectors run along the channels, no product
``depthwise.pxi``    the lines, the padding and the adjoint around its tiles
``depthwise_gradient.pxi``
                     the gradient of its weight
``block.pxi``        a depthwise convolution with the products before and after it, some lines at a time
``pool_window.pxi``  windows of a pooling: where each lies, and its maximum or mean
``pool.pxi``         max and average pooling, line by line
``pool_runs.pxi``    large windows, read in the order of memory
``pool_columns.pxi``
                     max pooling column by column: for few channels, and windows with many taps
``pool_back.pxi``    the backward pass of average pooling
``pool_spread.pxi``  the same of windows that overlap: sums across lines, then along them
``pool_places.pxi``  the backward pass of max pooling, from the positions of the maxima
``elementwise.pxi``  activations
``epilogue.pxi``     finishing a frozen model's outputs while a cache has them: the sum with a shortcut, the activation
``norm_sums.pxi``    sums for each channel
``norm_map.pxi``     the map that they determine, over lines of channels
``norm.pxi``         normalization: both, over sets of pixels and by threads
``norm_pool.pxi``    normalization, ReLU and max pooling without arrays in between
``rows.pxi``         layer normalization: each row of a matrix by itself
``softmax.pxi``      softmax of the rows
``cross_entropy.pxi``
                     the cross entropy of the rows
``losses.pxi``       Huber's loss and the squared error
``response_norm.pxi``
                     local response normalization
``dropout.pxi``      dropout, whose random numbers are a function of a key and the index
``optimizer.pxi``    the steps of the optimizers
``resize.pxi``       resizing, and its backward pass: weighted sums of pixels
``boxes.pxi``        non-maximum suppression
``moves.pxi``        channels from first to last and back, and in another order
``api.pxi``          what the C and Cython code of other packages may call, see ``fastconv/cython_api.pxd``
``cores.h``          keeping the threads of a loop on processors of their own, ``cores.pxi`` decides when to check; loops of
                     one thread without OpenMP
``peak.pxi``         multiply-adds in registers: the yardstick of the benchmarks
``_cpu.pyx``         the instruction sets that the processor offers; the duration of a poll of a waiting thread
``protocol.py``      the kernels that every variant has, for the type checker
===================  =================================================================================================

``kernels.pxi`` includes them all, and ``_<isa>_<dtype>.pyx`` is a stub that includes ``kernels.pxi``: ``setup.py`` compiles
each stub with the flags of its instruction set. Importing this package asks the processor what it offers and imports the
best variant; the environment variable ``FASTCONV_ISA`` (``baseline``, ``avx2`` or ``avx512``) forces one.

A kernel takes arrays, most of them as memoryviews, and writes into arrays that its caller allocated. It validates nothing,
holds no Python object without the GIL, and gives the same bits for any number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

import numpy as np

from fastconv._kernels import _cpu

if TYPE_CHECKING:
    from fastconv._kernels.protocol import Kernels

#: Every instruction set that has variants, the plainest first.
ISAS = ("baseline", "avx2", "avx512")

#: Microseconds that a thread spins before it sleeps: as long as it may take to wake, so that neither costs much more than it
#: must, and longer than two loops of a step are apart.
WAIT = 250.0

_SUFFIXES: dict[np.dtype, str] = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64"}


def built_isas() -> list[str]:
    """Return the instruction sets that this installation has kernels for."""
    return [isa for isa in ISAS if find_spec(f"{__name__}._{isa}_f32")]


def offered_isas() -> list[str]:
    """Return the instruction sets that the processor and the operating system offer."""
    return list(_cpu.offered_isas())


def usable_isas() -> list[str]:
    """Return the instruction sets whose kernels can run here: both built and offered, the plainest first."""
    offered = offered_isas()
    return [isa for isa in built_isas() if isa in offered]


def choose_isa(wanted: str | None, built: list[str], offered: list[str]) -> str:
    """Return the best instruction set of those both built and offered, or the `wanted` one.

    Raises `ImportError` where `wanted` is not one of them.
    """
    usable = [isa for isa in built if isa in offered]
    if not usable:
        raise ImportError(
            "this installation of fastconv has no kernels: install it again, from a wheel or with a C compiler"
        )
    if not wanted:
        return usable[-1]
    if wanted not in ISAS:
        raise ImportError(f"FASTCONV_ISA must be one of {', '.join(ISAS)}, got {wanted!r}")
    if wanted not in usable:
        why = "this installation has no kernels for it" if wanted not in built else "this processor does not offer it"
        raise ImportError(f"FASTCONV_ISA={wanted}: {why}; usable here: {', '.join(usable)}")
    return wanted


def load(isa: str) -> dict[np.dtype, Kernels]:
    """Import the kernels of one instruction set: dtype to module."""
    return {dtype: cast("Kernels", import_module(f"{__name__}._{isa}_{suffix}")) for dtype, suffix in _SUFFIXES.items()}


@contextmanager
def short_waits() -> Iterator[None]:
    """Let an OpenMP runtime that is loaded meanwhile put its idle threads to sleep soon, unless the user said how it waits.

    GNU's spins for milliseconds after each loop and takes the processor from whoever has work: on two busy cores training
    took five times as long. It counts how often it looks, and a look takes 3 to 50 nanoseconds, so the time is measured here.
    It reads its settings from the environment once, when it is loaded; the environment is left as it was.
    """
    if any(name in os.environ for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = str(_cpu.spins(WAIT))
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def keep_freed_memory() -> None:
    """Let the C library keep up to 64 MB of freed memory instead of giving it back and asking for it again.

    For what `_memory.empty` does not allocate, scratch and the arrays of layers that others write in NumPy: faulting them in
    anew took up to a fifth of a step of a small network. GNU's allocator adapts to the largest array that it has seen freed,
    up to 32 MB; it is shown one, which is never touched. It does not adapt where the user has set it
    (``MALLOC_TRIM_THRESHOLD_`` and its like), and no other allocator minds.
    """
    np.empty(2**25 - 2**13, np.uint8)


keep_freed_memory()

#: The instruction set in use.
isa: str = choose_isa(os.environ.get("FASTCONV_ISA"), built_isas(), offered_isas())

#: The modules in use, by dtype.
modules: dict[np.dtype, Kernels]
with short_waits():
    modules = load(isa)

#: Whether the kernels were built with OpenMP; without it every call runs on one thread.
has_openmp: bool = modules[np.dtype(np.float32)].describe()["openmp"]


#: Has a loop's threads each on a processor of its own (cores.pxi): any module's, since all have the same threads.
keep_apart: Callable[[int], None] = modules[np.dtype(np.float32)].keep_apart

#: Called after `use`: whoever has kept something of the modules in use takes it anew.
after_use: list[Callable[[], None]] = []


def use(name: str) -> None:
    """Switch every later call to another instruction set (the tests run the kernels of each)."""
    global isa
    isa = choose_isa(name, built_isas(), offered_isas())
    modules.update(load(isa))
    for function in after_use:
        function()
