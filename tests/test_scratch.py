"""Scratch memory is bounded: at most 8 MB a thread beyond the arrays that a call returns, however large the image."""

from __future__ import annotations

import json
import os
import sys

import pytest
from programs import run_program

pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and os.access("/proc/self/clear_refs", os.W_OK)),
    reason="the peak of a process's memory can be reset on Linux alone",
)

PROGRAM = """
import ctypes
import json
import numpy as np
import fastconv
from fastconv import functional
from fastconv._kernels._memory import give_back

trim = ctypes.CDLL(None).malloc_trim
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no pages of 2 MB: what is counted is what was written

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

def scratch(function, *arguments, **keywords):
    # how much the process grows at its peak, less what is returned; nothing that was kept before may be used again
    give_back()
    trim(0)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    results = getattr(functional, function)(*arguments, **keywords)
    peak = status("VmHWM")
    results = results if isinstance(results, tuple) else (results,)
    call = f"{{function}} {{[getattr(a, 'shape', a) for a in arguments]}} {{keywords}}"
    grown[call] = peak - before - sum(array.nbytes for array in results if array is not None)

def ones(*shape):
    return np.ones(shape, np.{dtype})

fastconv.set_num_threads({threads})
functional.linear(ones(512, 512), ones(512, 512))  # starts the threads
grown = {{}}

x, weight = ones(1, 700, 500, 16), ones(3, 3, 16, 16)  # the windows as a matrix would be nine times x: 200 MB in float32
scratch("conv", x, weight, padding=1)
scratch("conv", x, weight, stride=2, dilation=3)
scratch("conv_backward", x, x, weight, padding=1)
scratch("conv_transpose", x, ones(2, 2, 4, 16), stride=2)
depthwise = ones(5, 5, 1, 16)
scratch("conv", x, depthwise, padding=2, groups=16)
scratch("conv_backward", x, x, depthwise, padding=2, groups=16)
scratch("max_pool", x, 3, stride=1, padding=1)
scratch("max_pool_with_indices", x, 3, stride=1, padding=1)
_, indices = functional.max_pool_with_indices(x, 3, stride=1, padding=1)
scratch("max_pool_with_indices_backward", x, indices)
scratch("avg_pool", x, 3, stride=1, padding=1)
scratch("avg_pool_backward", x, x.shape, 3, stride=1, padding=1)

scratch("upsample", x, 2)
scratch("upsample", x, (1, 2), mode="bilinear")
scratch("upsample_backward", x, (1, 350, 250, 16), 2)
scratch("upsample_backward", x, (1, 350, 250, 16), 2, mode="bilinear")

x = ones(1, 2_000_000, 1)  # a line so long that numbers for each of its pixels, or windows, would be tens of megabytes
y = ones(1, 1_000_000, 1)
scratch("max_pool", x, 2)
scratch("max_pool_with_indices", x, 2)
_, indices = functional.max_pool_with_indices(x, 2)
scratch("max_pool_with_indices_backward", y, indices)
scratch("avg_pool", x, 2)
scratch("avg_pool_backward", y, x.shape, 2)
scratch("adaptive_max_pool", x, 1_000_000)
scratch("adaptive_max_pool_with_indices", x, 1_000_000)
_, indices = functional.adaptive_max_pool_with_indices(x, 1_000_000)
scratch("adaptive_max_pool_with_indices_backward", y, indices)
scratch("adaptive_avg_pool", x, 999_999)
scratch("adaptive_avg_pool_backward", y, x.shape, 1_000_000)
for mode in ("nearest", "bilinear"):
    scratch("upsample", y, 2, mode=mode)
    scratch("upsample_backward", x, y.shape, 2, mode=mode)

x, weight = ones(4, 60, 65, 8), ones(60, 65, 3, 3, 8, 8)
scratch("locally_connected", x, weight, padding=1)
scratch("locally_connected_backward", x, x, weight, padding=1)

x, weight = ones(4, 28, 28, 1152), ones(1, 1, 1152, 1152)
scratch("conv", x, weight, algorithm="strassen")
scratch("conv_backward", x, x, weight, algorithm="strassen")

x, weight = ones(300, 3000), ones(3000, 3000)
scratch("linear", x, weight)
scratch("linear_backward", x, x, weight)

x, weight = ones(1, 20, 20, 512), ones(31, 31, 1, 512)  # a large weight: sums of parts of the image are as large each
scratch("conv_backward", x, x, weight, padding=15, groups=512)

x, channel = ones(128, 40_000), ones(40_000)  # so many channels that partial sums would be large
scratch("batch_norm", x, channel, channel)
scratch("batch_norm_backward", x, x, channel, channel, channel)
scratch("group_norm_backward", x[:, None], x[:, None], 8, channel)
scratch("layer_norm_backward", x.reshape(1024, 5000), x.reshape(1024, 5000), ones(5000))
scratch("softmax_backward", x, x)

def every_pass(shape, kernel, *, padding="same", **layout):
    x, weight = ones(*shape), ones(*kernel)
    layout |= dict(padding=padding, groups=shape[-1] // kernel[-2])
    scratch("conv", x, weight, **layout)
    y = np.broadcast_to(x.dtype.type(1), functional.conv(x, weight, **layout).shape).copy()
    for name in ("x", "weight", "bias"):
        scratch("conv_backward", y, x, weight, wrt=name, **layout)

# Winograd's algorithm at its widest, few tiles and many, and gradients whose partial sums would be large
for shape, kernel in (
    ((1, 20, 20, 1536), (3, 3, 1536, 64)),
    ((1, 20, 20, 64), (3, 3, 64, 1536)),
    ((1, 100, 100, 256), (3, 3, 256, 256)),
    ((4, 56, 56, 128), (5, 5, 128, 128)),
    ((1, 6, 40, 40, 256), (3, 3, 3, 256, 64)),
    ((1, 200, 200, 64), (3, 3, 32, 64)),
    ((1, 200, 200, 64), (5, 5, 4, 64)),
):
    every_pass(shape, kernel)

# lines, channels and weights that are as long, as many and as large as can be where few would be copied, packed or folded
for shape, kernel, stride in (
    ((1, 12, 20_000, 3), (7, 7, 3, 64), 2),
    ((8, 224, 224, 3), (11, 11, 3, 110), 4),
    ((1, 64, 64, 128), (7, 7, 128, 128), 2),
    ((4, 100, 100, 32), (5, 5, 32, 42), 2),
    ((1, 2, 200_000, 3), (3, 3, 3, 6), 1),
    ((1, 3, 50_000, 16), (3, 3, 16, 32), 1),
    ((1, 3, 50_000, 64), (3, 3, 64, 2), 1),
    ((1, 3, 50_000, 6), (3, 3, 6, 6), 2),
    ((1, 100_000, 16), (501, 16, 2), 1),
    ((1, 5, 10_000, 256), (3, 3, 4, 256), 1),
    ((1, 4, 4, 100_000), (1, 1, 100_000, 4), 1),
    ((1, 4, 4, 4), (1, 1, 4, 100_000), 1),
    ((1, 6, 6, 50_000), (3, 3, 1, 50_000), 1),
):
    every_pass(shape, kernel, padding=kernel[0] // 2, stride=stride)
every_pass((1, 33, 33, 512), (3, 3, 512, 128), dilation=12)
every_pass((1, 28, 28, 1024), (1, 1, 32, 1024))
print(json.dumps(grown))
"""


@pytest.mark.parametrize(("threads", "dtype"), [(1, "float32"), (1, "float64"), (2, "float32"), (2, "float64")])
def test_scratch_is_at_most_8_mb_a_thread(threads, dtype):
    # every larger block is mapped on its own and given back, so that none is taken from what a call before left behind
    done = run_program(PROGRAM.format(threads=threads, dtype=dtype), MALLOC_MMAP_THRESHOLD_="65536")
    too_much = {call: grown for call, grown in json.loads(done.stdout).items() if grown > threads * 8 * 2**20}
    assert not too_much
