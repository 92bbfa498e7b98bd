"""Hypothesis strategies for layers and what they compute on: arrays, shapes, geometries, layers, whole random models.

Everything here shrinks towards the smallest and simplest. Needs hypothesis: ``pip install 'fastconv[test]'``.

>>> from hypothesis import given, settings
>>> from fastconv.layers import ReLU
>>> from fastconv.testing import strategies
>>> @settings(max_examples=5, deadline=None)
... @given(strategies.arrays(strategies.shapes(rank=2)))
... def test_relu_is_never_negative(x):
...     assert (ReLU()(x) >= 0).all()
>>> test_relu_is_never_negative()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "fastconv.testing.strategies needs hypothesis, which is not installed: pip install 'fastconv[test]'"
    ) from error

from fastconv import layers as L
from fastconv.layers import Layer
from fastconv.layers.symbol import Shape
from fastconv.model import Input, Model
from fastconv.testing.cases import Case, Entry

__all__ = ["Geometry", "arrays", "cases", "geometries", "layers", "models", "shapes"]


class Geometry(NamedTuple):
    """How windows lie on an image: its spatial size, and for each axis what a convolution or a pooling is told."""

    size: tuple[int, ...]
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]

    @property
    def keywords(self) -> dict[str, Any]:
        """What a layer takes beside its kernel: stride, padding and dilation."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}


@st.composite
def shapes(
    draw: st.DrawFn,
    *,
    rank: int | None = None,
    batch: st.SearchStrategy[int] | None = None,
    sizes: st.SearchStrategy[int] | None = None,
    channels: st.SearchStrategy[int] | None = None,
) -> tuple[int, ...]:
    """Draw the shape of an array of images, ``(N, *spatial, C)``.

    Parameters
    ----------
    rank : int, optional
        Spatial axes; 1 to 3 where left out, 0 gives ``(N, C)``.
    batch, sizes, channels : strategies of int, optional
        For N (1 to 3), each spatial axis (1 to 7) and C (1 to 5 and, around a vector of the kernels, 8, 16, 17).
    """
    axes = draw(st.integers(1, 3)) if rank is None else rank
    side = st.integers(1, 7) if sizes is None else sizes
    n = draw(st.integers(1, 3) if batch is None else batch)
    c = draw(st.sampled_from([1, 2, 3, 4, 5, 8, 16, 17]) if channels is None else channels)
    return (n, *(draw(side) for _ in range(axes)), c)


@st.composite
def arrays(
    draw: st.DrawFn,
    shape: Any,
    *,
    dtype: Any = np.float32,
    low: float = -4.0,
    high: float = 4.0,
    distinct: bool = False,
) -> np.ndarray:
    """Draw an array of random numbers between `low` and `high`.

    The numbers come from a generator whose seed is drawn, so that large arrays cost nothing and shrinking makes them smaller.

    Parameters
    ----------
    shape : tuple of int, or a strategy of them
    dtype : float32 or float64
        The numbers are those of float32 in both.
    distinct : bool
        No two numbers are equal, as max pooling needs to be differentiable.
    """
    wanted = draw(shape) if isinstance(shape, st.SearchStrategy) else tuple(shape)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    size = int(np.prod(wanted))
    values = rng.uniform(low, high, size)
    if distinct:
        values = rng.permutation(low + (high - low) * (np.arange(size) + 0.5) / max(size, 1))
    return values.reshape(wanted).astype(np.float32).astype(dtype)


@st.composite
def geometries(draw: st.DrawFn, *, rank: int | None = None, padded: bool = True, dilated: bool = True) -> Geometry:
    """Draw windows that fit an image: kernels of even and odd sizes, strides, one-sided padding, dilation.

    An axis is drawn from its output, so that up to ``stride - 1`` pixels are left over at its end.

    Parameters
    ----------
    rank : int, optional
        Spatial axes; 1 to 3 where left out.
    padded, dilated : bool
        Whether there may be padding and dilation.
    """
    axes = []
    for _ in range(draw(st.integers(1, 3)) if rank is None else rank):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        dilation = draw(st.integers(1, 2)) if dilated else 1
        most = min(2, kernel - 1) if padded else 0
        before, after = draw(st.integers(0, most)), draw(st.integers(0, most))
        outputs, rest = draw(st.integers(1, 4)), draw(st.integers(0, stride - 1))
        size = (outputs - 1) * stride + (kernel - 1) * dilation + 1 + rest - before - after
        axes.append((max(size, 1), kernel, stride, (before, after), dilation))
    return Geometry(*zip(*axes, strict=True))


@st.composite
def layers(draw: st.DrawFn, shape: Shape) -> Layer:
    """Draw a layer of fastconv, not built, that takes inputs ``(N, *shape)``.

    Every layer can come out that networks are built of: with one input of real numbers of any size, defined for so many axes.
    """
    rank, channels = len(shape) - 1, shape[-1]
    kernel = draw(st.integers(1, 3))
    width = draw(st.integers(1, 5))
    choices: list[Any] = [
        st.sampled_from([L.ReLU, L.ReLU6, L.LeakyReLU, L.PReLU, L.ELU, L.SELU, L.GELU, L.SiLU, L.HardSwish]).map(
            lambda c: c()
        ),
        st.sampled_from([L.HardSigmoid, L.Sigmoid, L.Tanh, L.Softplus, L.Softmax, L.LogSoftmax]).map(lambda c: c()),
        st.sampled_from([L.CELU, L.Mish, L.Softsign, L.ThresholdedReLU, L.Abs, L.Erf]).map(lambda c: c()),
        st.sampled_from([L.Clip(-1.0, 1.5), L.ScaleShift(0.5, 1.0), L.LocalResponseNorm(3), L.StochasticDepth(0.3)]),
        st.sampled_from([L.SpatialDropout(0.3), L.AlphaDropout(0.2)]),
        st.sampled_from([L.BatchNorm, L.LayerNorm, L.Flatten]).map(lambda c: c()),
        st.just(width).map(L.Linear),
        st.sampled_from([0.0, 0.3]).map(L.Dropout),
    ]
    if 1 <= rank <= 3:
        divisors = [n for n in range(1, channels + 1) if channels % n == 0]
        groups, stride = draw(st.sampled_from(divisors)), draw(st.integers(1, 2))
        same = {"padding": "same"}
        choices += [
            st.just(L.GroupNorm(groups)),
            st.just(_ranked("Conv", rank)(width * groups, kernel, stride=stride, groups=groups, **same)),
            st.just(_ranked("ConvTranspose", rank)(width, stride, stride=stride)),
            st.just(_ranked("MaxPool", rank)(kernel, stride, **same)),
            st.just(_ranked("AvgPool", rank)(kernel, stride, **same)),
            st.just(_ranked("LpPool", rank)(kernel, stride, **same)),
            st.sampled_from([_ranked("AdaptiveAvgPool", rank), _ranked("AdaptiveMaxPool", rank)]).map(
                lambda c: c(kernel)
            ),
            st.sampled_from([L.GlobalAvgPool, L.GlobalMaxPool]).map(lambda c: c(keepdims=True)),
            st.just(L.ZeroPad()),
            st.just(L.AddCoords()),
        ]
    if rank in (1, 2):
        choices.append(st.just(_ranked("LocallyConnected", rank)(width, kernel, padding=kernel - 1)))
        choices.append(st.sampled_from(["nearest", "bilinear"]).map(lambda mode: L.Upsample(2, mode=mode)))
    if rank == 2:
        choices.append(st.just(L.DepthwiseConv2d(kernel, padding="same")))
        choices.append(st.just(L.SeparableConv2d(width, kernel, padding="same")))
    layer: Layer = draw(st.one_of(choices))
    return layer


def _ranked(name: str, rank: int) -> Any:
    return getattr(L, f"{name}{rank}d")


@st.composite
def models(draw: st.DrawFn, *, shape: Shape | None = None, depth: int = 4, outputs: int | None = None) -> Model:
    """Draw a whole network, not built: a chain of random layers, in which some steps are residual or dense connections.

    Parameters
    ----------
    shape : tuple of int, optional
        Of the input, without the batch; a small one is drawn where left out.
    depth : int
        The most steps.
    outputs : int, optional
        End with so many numbers for each image, as a classifier does.

    Examples
    --------
    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5, deadline=None)
    ... @given(models(outputs=3))
    ... def test_every_network_has_three_outputs(model):
    ...     assert model.output_shape(*model.input_shapes) == (3,)
    >>> test_every_network_has_three_outputs()
    """
    start = draw(shapes(sizes=st.integers(2, 5), channels=st.integers(1, 4)))[1:] if shape is None else shape
    x = y = Input(start)
    for _ in range(draw(st.integers(0 if outputs else 1, depth))):
        layer = draw(layers(y.shape))
        z = layer(y)
        merges: list[Any] = [None]
        if z.shape == y.shape:
            merges += [L.Add, L.Multiply]
        if z.shape[:-1] == y.shape[:-1] and y.shape[-1] < 20:
            merges.append(L.Concat)
        merge = draw(st.sampled_from(merges))
        y = z if merge is None else merge()(y, z)
    if outputs:
        y = L.Linear(outputs)(L.Flatten()(y))
    return Model(x, y)


@st.composite
def cases(draw: st.DrawFn, entries: Sequence[Entry], *, dtypes: Sequence[Any] = (np.float64,)) -> Case:
    """Draw an example for the checks of a layer: one of `entries`, shapes, a batch, a mode, a seed and one of `dtypes`."""
    entry = draw(st.sampled_from(entries))
    variant = draw(st.sampled_from(entry.variants))
    batch, training, seed = draw(st.integers(1, 3)), draw(st.booleans()), draw(st.integers(0, 100))
    return Case(entry, variant, batch, training, seed, draw(st.sampled_from(list(dtypes))))
