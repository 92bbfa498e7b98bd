"""What every way to convolve must do: equal the reference there and back, and not depend on the number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
from exact import assert_all_exact, assert_exact, whole

import fastconv
from fastconv import functional, reference


def assert_product_exact(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, seed: int = 0, **keywords: Any
) -> None:
    """Fail unless convolution as a product, and all its gradients, are exactly the reference's for whole numbers."""
    want = reference.conv(x, weight, bias, **keywords)
    assert_exact(functional.conv(x, weight, bias, algorithm="product", **keywords), want, x.dtype)
    dy = whole(want.shape, x.dtype, seed + 1)
    assert_all_exact(
        functional.conv_backward(dy, x, weight, algorithm="product", **keywords),
        reference.conv_backward(dy, x, weight, **keywords),
        x.dtype,
    )


def assert_same_on_any_threads(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None, **keywords: Any
) -> None:
    """Fail unless one, two and three threads make the same bits, there and back."""
    results = []
    for threads in (1, 2, 3):
        with fastconv.num_threads(threads):
            y = functional.conv(x, weight, bias, **keywords)
            results.append([a.tobytes() for a in (y, *functional.conv_backward(y, x, weight, **keywords))])
    assert results[0] == results[1] == results[2]
