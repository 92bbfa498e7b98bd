"""What every operation of fastconv means: slow NumPy that is written to be read, and that the tests trust.

Arrays are channels last: images are ``x[n, h, w, c]``, for one to three spatial axes (``x[n, h, c]``, ``x[n, d, h,
w, c]``). Every function has the name and the arguments of its fast twin in `fastconv.functional`, and its backward pass,
with the suffix ``_backward``, beside it: given ``dy``, the gradient of some loss with respect to the output, it
returns the gradient with respect to the inputs. The arrays of a call are all float32 or all float64, and so are the
results; nothing checks that, and whole numbers (``np.arange(5)``) would have their fractions cut off.

Three ideas make a convolutional network.

*The sliding window.* Each output looks at a small rectangle of the input, its window. The window of output 0 lies
at the start; one output further it lies `stride` inputs further. `padding` puts zeros around the input so that
windows can hang over the edge, and `dilation` leaves gaps between the inputs that a window reads. With kernel 3 and
padding 1::

    stride 1              stride 2              stride 1, dilation 2, padding 2
    0 [a  b] c  d  0      0 [a  b] c  d  0      0  0 [a] b [c] d  0  0        [ ] is what the window
    y0 sees (0 a b)       y0 sees (0 a b)       y0 sees (0 a c)               of the first output sees
    y1 sees (a b c)       y1 sees (b c d)       y1 sees (0 b d)

*Local connections.* An output is the sum, over the pixels and channels in its window only, of input times weight. A
dense layer (`linear`) has a weight for every pair of input and output; a `locally_connected` layer has weights only
inside the windows, because neighboring pixels are related and distant ones hardly.

*Shared weights.* A `conv` goes one step further: all windows use the same weights, the kernel, because an edge is
an edge wherever it is. So a convolution has few weights, and when the image moves, its output moves along
(translation equivariance). Read the three from the most connected to the most frugal: `fastconv.reference.linear`,
`local`, `conv`.

The backward pass through shared weights follows from one rule: a number that is used many times collects the gradients of
all its uses. A weight of a convolution sums over all windows; a pixel sums over all windows that saw it.

>>> import numpy as np
>>> from fastconv import reference
>>> x = np.array([0.0, 0, 1, 1, 0]).reshape(1, 5, 1)
>>> edge = np.array([-1.0, 1]).reshape(2, 1, 1)
>>> reference.conv(x, edge)[0, :, 0]
array([ 0.,  1.,  0., -1.])
"""

from __future__ import annotations

from fastconv.reference.activation import (
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
from fastconv.reference.conv import conv, conv_backward, conv_transpose, conv_transpose_backward
from fastconv.reference.fused import (
    batch_norm_relu,
    batch_norm_relu_backward,
)
from fastconv.reference.interpolate import (
    interpolate,
    interpolate_backward,
)
from fastconv.reference.linear import linear, linear_backward
from fastconv.reference.local import locally_connected, locally_connected_backward
from fastconv.reference.loss import (
    cross_entropy,
    cross_entropy_backward,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)
from fastconv.reference.lp_pool import (
    lp_pool,
    lp_pool_backward,
)
from fastconv.reference.norm import (
    batch_norm,
    batch_norm_backward,
    group_norm,
    group_norm_backward,
    layer_norm,
    layer_norm_backward,
)
from fastconv.reference.pad import (
    pad,
    pad_backward,
)
from fastconv.reference.pool import (
    adaptive_avg_pool,
    adaptive_avg_pool_backward,
    adaptive_max_pool,
    adaptive_max_pool_backward,
    avg_pool,
    avg_pool_backward,
    max_pool,
    max_pool_backward,
)
from fastconv.reference.resize import upsample, upsample_backward

__all__ = [
    "adaptive_avg_pool",
    "adaptive_avg_pool_backward",
    "adaptive_max_pool",
    "adaptive_max_pool_backward",
    "avg_pool",
    "avg_pool_backward",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_relu",
    "batch_norm_relu_backward",
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
