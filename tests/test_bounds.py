"""No kernel reads or writes beyond an array: each lies against a page that must not be touched.

What a kernel allocates and what it writes lie between marks that the memory debugger of the C library checks.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from programs import run_program

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forbids pages and checks allocations the way of Linux")

PRELUDE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import faulthandler
faulthandler.enable()

import numpy as np
import fastconv
import fastconv.threads
from fastconv import _kernels, functional
from fastconv import layers as L
from fastconv.frozen import blocks
from operations import OPERATIONS
from problems import EDGES

fastconv.threads.WORTH_A_THREAD = 1
blocks.SMALL, blocks.WEIGHT, blocks.TWICE = 0, 1000, 1000
"""

GUARDED = """
import ctypes, mmap

libc = ctypes.CDLL(None, use_errno=True)
kept = []

def guarded(array, at_end):
    # a copy whose last (or first) byte is the neighbor of a forbidden page
    page = mmap.PAGESIZE
    pages = -(-array.nbytes // page) + 1
    memory = mmap.mmap(-1, pages * page)
    kept.append(memory)
    where = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    forbidden, start = (where + (pages - 1) * page, (pages - 1) * page - array.nbytes) if at_end else (where, page)
    copy = np.frombuffer(memory, array.dtype, array.size, start).reshape(array.shape)
    copy[...] = array
    assert libc.mprotect(ctypes.c_void_p(forbidden), ctypes.c_size_t(page), 0) == 0
    return copy
"""

EVERYTHING = """
def every_kernel(arrays_of, dtype):
    for operation in OPERATIONS:
        operation.run(tuple(arrays_of(array) for array in operation.arrays(dtype)))
    rng = np.random.default_rng(0)

    def new(*shape):
        return arrays_of(rng.standard_normal(shape).astype(dtype))

    for rows, inputs, outputs in ((1, 9, 3), (1, 40, 84), (1, 9, 120), (20, 260, 136)):  # weights where they lie
        x, weight, bias = new(rows, inputs), new(inputs, outputs), new(outputs)
        functional.linear_backward(arrays_of(functional.linear(x, weight, bias)), x, weight)
    for channels in EDGES:
        for outputs in (1, EDGES[-1] - channels + 1):
            x, weight = new(2, 4, 3, channels), new(3, 2, channels, outputs)
            y = arrays_of(functional.conv(x, weight, padding=1, stride=(1, 2)))
            functional.conv_backward(y, x, weight, padding=1, stride=(1, 2))
            weight = new(3, 2, outputs, channels)
            y = arrays_of(functional.conv_transpose(x, weight, stride=2))
            functional.conv_transpose_backward(y, x, weight, stride=2)
            weight = new(2, 2, 3, 2, channels, outputs)
            y = arrays_of(functional.locally_connected(x, weight))
            functional.locally_connected_backward(y, x, weight)
        x, weight = new(2, 4, 3, channels), new(3, 2, 1, channels)
        y = arrays_of(functional.conv(x, weight, padding=1, groups=channels))
        functional.conv_backward(y, x, weight, padding=1, groups=channels)
        for pool in ("max_pool", "avg_pool"):
            y = arrays_of(getattr(functional, pool)(x, 2, stride=1, padding=1))
            getattr(functional, pool + "_backward")(y, x if pool == "max_pool" else x.shape, 2, stride=1, padding=1)
        for stride in (1, 2):
            y = arrays_of(functional.max_pool(x, 3, stride=stride, padding=1))
            functional.max_pool_backward(y, x, 3, stride=stride, padding=1)
        scale = new(channels), new(channels)
        y, *kept = functional.batch_norm_relu_max_pool(x, *scale, 2, padding=1)
        functional.batch_norm_relu_max_pool_backward(arrays_of(y), x, *scale, *kept)
        functional.relu_backward(x, x)
        functional.batch_norm_backward(x, x, new(channels), new(channels), abs(new(channels)))
    # vectors that run over pixels and channels; padded lines
    for channels, outputs in ((1, 6), (3, 3), (1, 13), (3, 16), (1, 16), (5, 48)):
        x, weight = new(3, 4, 9, channels), new(3, 3, channels, outputs)
        y = arrays_of(functional.conv(x, weight, padding=1))
        functional.conv_backward(y, x, weight, padding=1)
    for channels in (16, 33):
        for outputs in (1, 3, 7, 15, 17, 40):
            for taps in ((3, 3), (5, 5), (1, 3)):
                x, weight, bias = new(2, 9, 8, channels), new(*taps, channels, outputs), new(outputs)
                y = arrays_of(functional.conv(x, weight, bias, padding=1, algorithm="winograd"))
                functional.conv_backward(y, x, weight, padding=1, algorithm="winograd")
                functional.conv_backward(y, x, weight, padding=1)
                y = arrays_of(functional.conv_transpose(x, new(*taps, outputs, channels), bias, algorithm="winograd"))
    for channels, outputs in ((1, 2), (1, 6), (2, 1), (3, 5), (16, 3), (1, 32)):  # vectors along the line or across channels
        x, weight = new(2, 5, 17, channels), new(3, 3, channels, outputs)
        y = arrays_of(functional.conv(x, weight, padding=1))
        functional.conv_backward(y, x, weight, padding=1)
    for channels, outputs, taps, stride in ((1, 3, 7, 2), (3, 17, 7, 2), (3, 20, 11, 4), (5, 9, 6, 2)):  # folded images
        x, weight = new(2, 17, 15, channels), new(taps, taps, channels, outputs)
        y = arrays_of(functional.conv(x, weight, stride=stride, padding=2, algorithm="winograd"))
        functional.conv_backward(y, x, weight, stride=stride, padding=2, algorithm="winograd")
    for channels, outputs in ((64, 64), (64, 192), (128, 320)):  # sums of quarters
        x, weight = new(2, 5, 13, channels), new(1, 1, channels, outputs)
        functional.conv_backward(
            arrays_of(functional.conv(x, weight, algorithm="strassen")), x, weight, algorithm="strassen"
        )
        arrays_of(functional.conv(x, weight, stride=2, algorithm="strassen"))
    for channels, outputs in ((33, 1), (40, 4), (70, 7), (3, 33), (512, 40), (40, 512)):  # one tap: few, packed
        x, weight = new(2, 5, 5, channels), new(1, 1, channels, outputs)
        functional.conv_backward(arrays_of(functional.conv(x, weight)), x, weight)
    x, weight = new(3, 1, 1, 5), new(2, 2, 5, 6)  # one pixel, which a stride reaches
    functional.conv_backward(arrays_of(functional.conv(x, weight, stride=2, padding=1)), x, weight, stride=2, padding=1)
    for groups, channels, outputs in ((3, 2, 3), (2, 1, 2), (9, 4, 4), (2, 17, 3)):
        x, weight = new(2, 4, 3, groups * channels), new(3, 2, channels, groups * outputs)
        y = arrays_of(functional.conv(x, weight, padding=1, groups=groups))
        functional.conv_backward(y, x, weight, padding=1, groups=groups)
    for groups, channels, outputs in ((2, 16, 16), (3, 17, 33), (2, 5, 34), (4, 34, 68)):
        x, weight = new(2, 4, 5, groups * channels), new(1, 1, channels, groups * outputs)
        y = arrays_of(functional.conv(x, weight, groups=groups))
        functional.conv_backward(y, x, weight, groups=groups)
    # shorter products at the border of an image are cut into larger parts than those inside
    x, weight = new(2, 5, 4, 4, 16), new(2, 3, 3, 4, 4, 4, 16, 13)
    y = functional.locally_connected(x, weight, stride=(3, 1, 1), padding=((2, 2), (1, 1), (1, 1)))
    functional.locally_connected_backward(y, x, weight, stride=(3, 1, 1), padding=((2, 2), (1, 1), (1, 1)))
    for channels, stride, outputs in ((16, 1, 17), (17, 2, 16), (33, 3, 20)):
        for part in (slice(0, 3), slice(0, 2), slice(1, 3)):
            convs = L.Conv2d(channels, 1), L.DepthwiseConv2d(3, stride=stride, padding=1), L.Conv2d(outputs, 1)
            shape = (7, 5, channels if part.start else 9)
            model = fastconv.Sequential(list(convs[part]), input_shape=shape).astype(dtype)
            for layer in model.layers:
                layer.params = {name: arrays_of(array) for name, array in layer.params.items()}
            frozen = fastconv.freeze(model, copy=False)
            assert frozen._plan([(2, *shape)]).blocks
            for _ in range(2):
                frozen(new(2, *shape))
        x, gate = fastconv.Input((7, 5, channels)), fastconv.Input((1, 1, channels))
        y = L.Conv2d(outputs, 1)(L.Multiply()(x, gate))
        fastconv.freeze(fastconv.Model([x, gate], y).astype(dtype))(new(2, 7, 5, channels), new(2, 1, 1, channels))
"""


@pytest.mark.parametrize("at_end", [True, False])
def test_no_kernel_touches_what_lies_beside_its_inputs(isa, at_end):
    run_program(
        PRELUDE + GUARDED + EVERYTHING + f"for dtype in (np.float32, np.float64):\n"
        f"    for threads in (1, 3):\n"
        f"        with fastconv.num_threads(threads):\n"
        f"            every_kernel(lambda array: guarded(array, {at_end}), dtype)\n"
        f"            kept.clear()\n",
        FASTCONV_ISA=isa,
    )


def memory_debugger():
    """Return what makes the C library check its allocations, or None where it cannot."""
    library = "libc_malloc_debug.so.0"
    probe = subprocess.run(["/bin/true"], env={"LD_PRELOAD": library}, capture_output=True, check=False)
    return None if probe.stderr or probe.returncode else {"LD_PRELOAD": library, "MALLOC_CHECK_": "3"}


def test_no_kernel_writes_beyond_its_outputs_and_scratch(isa):
    checks = memory_debugger()
    if checks is None:
        pytest.skip("the C library has no memory debugger")
    run_program(
        PRELUDE + EVERYTHING + "for dtype in (np.float32, np.float64):\n"
        "    for threads in (1, 3):\n"
        "        with fastconv.num_threads(threads):\n"
        "            every_kernel(lambda array: array, dtype)\n",
        FASTCONV_ISA=isa,
        **checks,
    )
