"""Several operations in one pass over memory, which is what limits each of them; the bits are those of one after the other."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastconv.arguments import boolean
from fastconv.functional import norm
from fastconv.functional._validate import float_array, require_shape


def batch_norm_relu(
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    *,
    residual: ArrayLike | None = None,
    mean: ArrayLike | None = None,
    var: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return ``relu(batch_norm(x) + residual)``, the end of a residual block (He et al., CVPR 2016), or without residual.

    Parameters
    ----------
    x, scale, bias, mean, var, eps
        As for `batch_norm`.
    residual : array, shape and dtype of x, optional
        What is added before the ReLU.

    Returns
    -------
    y (shape of x), mean (C,), var (C,), all of the dtype of x

    Raises
    ------
    TypeError, ValueError
        As `batch_norm`, and where residual has not the shape and the dtype of x.

    See Also
    --------
    batch_norm_relu_backward : its gradients.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0], [3.0]])
    >>> y, _, _ = batch_norm_relu(x, np.ones(1), np.zeros(1), residual=np.full((2, 1), 2.0), eps=0.0)
    >>> y[:, 0]
    array([1., 3.])
    """
    if residual is not None:
        like = float_array(x, "x")
        residual = float_array(residual, "residual", like=like)
        require_shape(residual, like.shape, "residual", "the shape of x")
    return norm.of_batch(x, scale, bias, mean, var, eps, residual=residual, relu=True)


def batch_norm_relu_backward(
    dy: ArrayLike,
    x: ArrayLike,
    scale: ArrayLike,
    bias: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    *,
    eps: float = 1e-5,
    batch_statistics: bool = True,
) -> norm.Gradients:
    """Return the gradients of `batch_norm_relu` without a residual: ``batch_norm_backward(relu_backward(dy, y=y), x, ...)``.

    Where the output was positive is computed again from x, which costs less than reading it. With a residual,
    ``g = relu_backward(dy, y=y)`` is its gradient, and `batch_norm_backward` takes g.

    Parameters
    ----------
    dy : array, shape and dtype of x
    x, scale, bias, eps
        As given to `batch_norm_relu`.
    mean, var : array (C,), as `batch_norm_relu` returned them
    batch_statistics : bool
        Whether they are the statistics of x itself.

    Returns
    -------
    dx (shape of x), dscale (C,), dbias (C,)

    Raises
    ------
    TypeError, ValueError
        As `batch_norm_backward`.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0], [1.0], [5.0]])
    >>> _, mean, var = batch_norm_relu(x, np.ones(1), np.zeros(1))
    >>> batch_norm_relu_backward(np.ones((3, 1)), x, np.ones(1), np.zeros(1), mean, var)[2]  # two were cut off
    array([1.])
    """
    return norm.of_batch_backward(
        dy, x, scale, mean, var, eps, boolean(batch_statistics, "batch_statistics"), relu_bias=bias
    )
