"""Arrays in, arrays out: every operation of fastconv as a function, forward and backward side by side.

Images are ``(N, *spatial, C)`` with one to three spatial axes, float32 or float64; the rank is taken from the array. A function
checks its arguments, allocates its result, chooses the algorithm and calls a kernel; it never changes its inputs.
"""

from fastconv.functional.activation import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    hard_sigmoid,
    hard_sigmoid_backward,
    hard_swish,
    hard_swish_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu6,
    relu6_backward,
    relu_backward,
    selu,
    selu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from fastconv.functional.avg_pool import (
    adaptive_avg_pool,
    adaptive_avg_pool_backward,
    avg_pool,
    avg_pool_backward,
)
from fastconv.functional.conv import (
    conv,
    conv_backward,
    conv_transpose,
    conv_transpose_backward,
)
from fastconv.functional.fused import (
    batch_norm_relu,
    batch_norm_relu_backward,
    batch_norm_relu_max_pool,
    batch_norm_relu_max_pool_backward,
)
from fastconv.functional.interpolate import (
    interpolate,
    interpolate_backward,
)
from fastconv.functional.layer_norm import layer_norm, layer_norm_backward
from fastconv.functional.linear import (
    linear,
    linear_backward,
)
from fastconv.functional.local import (
    locally_connected,
    locally_connected_backward,
)
from fastconv.functional.loss import (
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)
from fastconv.functional.lp_pool import (
    lp_pool,
    lp_pool_backward,
)
from fastconv.functional.max_pool import (
    adaptive_max_pool,
    adaptive_max_pool_backward,
    adaptive_max_pool_with_indices,
    adaptive_max_pool_with_indices_backward,
    max_pool,
    max_pool_backward,
    max_pool_with_indices,
    max_pool_with_indices_backward,
)
from fastconv.functional.norm import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    group_norm_with_statistics,
    group_norm_with_statistics_backward,
)
from fastconv.functional.pad import (
    pad,
    pad_backward,
)
from fastconv.functional.resize import (
    upsample,
    upsample_backward,
)

__all__ = [
    "adaptive_avg_pool",
    "adaptive_avg_pool_backward",
    "adaptive_max_pool",
    "adaptive_max_pool_backward",
    "adaptive_max_pool_with_indices",
    "adaptive_max_pool_with_indices_backward",
    "avg_pool",
    "avg_pool_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_relu",
    "batch_norm_relu_backward",
    "batch_norm_relu_max_pool",
    "batch_norm_relu_max_pool_backward",
    "conv",
    "conv_backward",
    "conv_transpose",
    "conv_transpose_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "group_norm",
    "group_norm_backward",
    "group_norm_with_statistics",
    "group_norm_with_statistics_backward",
    "hard_sigmoid",
    "hard_sigmoid_backward",
    "hard_swish",
    "hard_swish_backward",
    "interpolate",
    "interpolate_backward",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward",
    "locally_connected",
    "locally_connected_backward",
    "log_softmax",
    "log_softmax_backward",
    "lp_pool",
    "lp_pool_backward",
    "max_pool",
    "max_pool_backward",
    "max_pool_with_indices",
    "max_pool_with_indices_backward",
    "pad",
    "pad_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "tanh",
    "tanh_backward",
    "upsample",
    "upsample_backward",
]
