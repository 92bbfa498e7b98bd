"""The fast convolutions against SciPy and NumPy, which share no line with ours."""

from __future__ import annotations

import numpy as np
import pytest
from exact import assert_exact, several
from hypothesis import given, settings
from independent import correlate
from numpy.lib.stride_tricks import sliding_window_view
from problems import SEEDS, conv_problems
from scipy import ndimage, signal

from fastconv import functional


@settings(max_examples=15)
@given(problem=conv_problems(smallest_batch=1), seed=SEEDS)
def test_conv(isa, problem, seed):
    x, weight = several([problem.x, problem.weight], np.float64, seed)
    keywords = dict(problem.keywords)
    if isinstance(keywords["padding"], str):
        keywords["padding"] = "same" if keywords["padding"] == "same" else 0
    elif np.ndim(keywords["padding"]) < 2:
        keywords["padding"] = tuple(np.broadcast_to(keywords["padding"], x.ndim - 2))
    assert_exact(functional.conv(x, weight, **problem.keywords), correlate(x, weight, **keywords))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [(3,), (4, 2), (2, 1, 3)])
def test_conv_transpose_is_a_full_convolution_of_the_stuffed_image(isa, stride, kernel):
    size = (4, 5, 3)[: len(kernel)]
    x, weight = several([(*size, 2), (*kernel, 3, 2)])
    stuffed = np.zeros((*((n - 1) * stride + 1 for n in size), 2))
    stuffed[tuple(slice(None, None, stride) for _ in size)] = x
    want = np.stack(
        [sum(signal.convolve(stuffed[..., c], weight[..., o, c], method="direct") for c in range(2)) for o in range(3)],
        axis=-1,
    )
    assert_exact(functional.conv_transpose(x[None], weight, stride=stride)[0], want)


def test_a_gaussian_blur_of_a_photograph_sized_image(isa):
    image = np.random.default_rng(0).random((60, 80))
    taps = signal.windows.gaussian(7, 1.5)
    blur = np.outer(taps, taps)[:, :, None, None]
    y = functional.conv(image[None, :, :, None], blur, padding="same")[0, :, :, 0]
    np.testing.assert_allclose(y, ndimage.correlate(image, blur[:, :, 0, 0], mode="constant"), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_linear_is_matmul(isa, dtype):
    x, weight = several([(7, 5, 33), (33, 17)], dtype)
    assert_exact(functional.linear(x, weight), x @ weight)


def test_locally_connected_is_an_einsum_over_windows(isa):
    x, weight = several([(3, 6, 7, 4), (2, 3, 3, 2, 4, 5)])
    windows = sliding_window_view(x, (3, 2), axis=(1, 2))[:, ::2, ::2]  # (N, P, Q, C, R, S)
    want = np.einsum("npqcrs,pqrsco->npqo", windows[:, :2, :3], weight)
    assert_exact(functional.locally_connected(x, weight, stride=2), want)
