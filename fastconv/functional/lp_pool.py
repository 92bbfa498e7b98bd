"""Pooling by the p-norm of each window: the sum of absolute values for p = 1, the maximum for p towards infinity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import positive
from fastconv.functional._channels import multiplied
from fastconv.functional._pool_plan import PoolPlan, output_gradient, pool_plan
from fastconv.functional._validate import images
from fastconv.functional.avg_pool import mean_of, mean_of_backward


def lp_pool(
    x: ArrayLike,
    kernel_size: Any,
    *,
    p: int = 2,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> NDArray[Any]:
    """Return the p-norm of each window: ``y[n, q, c] = (sum_r |x[n, q * stride + r * dilation - before, c]| ** p) ** (1 / p)``.

    Parameters
    ----------
    x : array (N, *spatial, C), float32 or float64
    kernel_size, stride, padding, dilation, ceil_mode
        As for `max_pool`; padding counts nothing.
    p : int, at least 1

    Returns
    -------
    array (N, *output, C), dtype of x

    Raises
    ------
    TypeError, ValueError
        As `max_pool`, and for a p below 1.

    See Also
    --------
    lp_pool_backward : its gradient.

    Examples
    --------
    >>> import numpy as np
    >>> lp_pool(np.array([3.0, 4.0]).reshape(1, 2, 1), 2)[0, :, 0]
    array([5.])
    """
    x, p = images(x, "x"), positive(p, "p")
    total = mean_of(_power(x, p), _sums(pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode)))
    y: NDArray[Any] = np.sqrt(total, out=total) if p == 2 else total ** np.asarray(1 / p, x.dtype)
    return y


def lp_pool_backward(
    dy: ArrayLike,
    x: ArrayLike,
    kernel_size: Any,
    *,
    p: int = 2,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> NDArray[Any]:
    """Return the gradient of `lp_pool`: ``dx = sign(x) * |x| ** (p - 1) * sum of dy / y ** (p - 1)`` over the windows of x.

    A window of zeros hands nothing on.

    Parameters
    ----------
    dy : array, the shape of the output, dtype of x
    x, kernel_size, p, stride, padding, dilation, ceil_mode
        As given to `lp_pool`.

    Examples
    --------
    >>> import numpy as np
    >>> lp_pool_backward(np.array([[[10.0]]]), np.array([3.0, 4.0]).reshape(1, 2, 1), 2)[0, :, 0]
    array([6., 8.])
    """
    x, p = images(x, "x"), positive(p, "p")
    plan = _sums(pool_plan(x.shape, kernel_size, stride, padding, dilation, ceil_mode))
    total = mean_of(_power(x, p), plan)
    some = total > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = 1 / np.sqrt(total, out=total) if p == 2 else total ** np.asarray(1 / p - 1, x.dtype)
        scale *= output_gradient(dy, plan, x)
    shares = mean_of_backward(np.where(some, scale, x.dtype.type(0)), x.shape, plan)
    return multiplied(shares, x if p == 2 else np.abs(x) ** (p - 1) * np.sign(x))


def _power(x: NDArray[Any], p: int) -> NDArray[Any]:
    return multiplied(x, x) if p == 2 else np.abs(x) ** p


def _sums(plan: PoolPlan) -> PoolPlan:
    """Return the plan with windows that divide by 1, so that a mean is a sum."""
    axes = plan.axes.copy()
    axes[:, -2:] = 0  # nothing is counted, and at least 1 is
    return plan._replace(axes=axes)
