"""Arrays in, arrays out: every operation of fastconv as a function, forward and backward side by side.

Images are ``(N, *spatial, C)`` with one to three spatial axes, float32 or float64; the rank is taken from the array. A function
checks its arguments, allocates its result, chooses the algorithm and calls a kernel; it never changes its inputs.
"""

from fastconv.functional.conv import conv, conv_backward, conv_transpose, conv_transpose_backward
from fastconv.functional.linear import linear, linear_backward
from fastconv.functional.local import locally_connected, locally_connected_backward

__all__ = [
    "conv",
    "conv_backward",
    "conv_transpose",
    "conv_transpose_backward",
    "linear",
    "linear_backward",
    "locally_connected",
    "locally_connected_backward",
]
