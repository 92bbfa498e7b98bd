"""One table of layers for the tests: every registered layer, made with which arguments, for inputs of which shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastconv import layers as L
from fastconv.branch import Branch
from fastconv.layers import Context, Layer
from fastconv.model import Input, Model
from fastconv.sequential import Sequential
from fastconv.unbatched import Unbatched


class Case(NamedTuple):
    make: Callable[[], Layer]
    shapes: tuple[tuple[int, ...], ...]
    takes_any_rank: bool = False
    within: tuple[float, float] = (-4.0, 4.0)
    integers: tuple[int, ...] = ()
    ones: tuple[int, ...] = ()


def case(
    make: Callable[[], Layer],
    *shapes: tuple[int, ...],
    any_rank: bool = False,
    integers: tuple[int, ...] = (),
    ones: tuple[int, ...] = (),
) -> Case:
    """Return a case; `integers` are the inputs that are, those of `ones` are all 1."""
    return Case(make, shapes, any_rank, integers=integers or ones, ones=ones)


def positive_case(make: Callable[[], Layer], *shapes: tuple[int, ...], any_rank: bool = False) -> Case:
    """Return a case with inputs from 0.3 to 2."""
    return case_within(0.3, 2.0, make, *shapes, any_rank=any_rank)


def case_within(
    low: float, high: float, make: Callable[[], Layer], *shapes: tuple[int, ...], any_rank: bool = False
) -> Case:
    """Return a case with inputs between two numbers."""
    return Case(make, shapes, any_rank, within=(low, high))


def _residual() -> Model:
    x = Input((4, 4, 2))
    y = L.Conv2d(2, 3, padding=1)(x)
    return Model(x, L.Add()(x, L.Tanh()(y)))


def _two_in_two_out() -> Model:
    a, b = Input((3, 2)), Input((3, 2))
    shared = L.Linear(2)
    y = L.Multiply()(shared(a), shared(b))
    return Model([a, b], [y, L.Tanh()(a)])


def _unbatched() -> Unbatched:
    x = Input((2, 4, 3))
    body = Model(x, L.Linear(2)(L.Tanh()(x)))
    return Unbatched(body, [{"name": "x", "shape": [2, 4, 3], "used": True}], [{"name": "y", "from": 0}])


def _branch(other: Layer) -> Branch:
    def model(layer: Layer) -> Unbatched:
        x, y = Input((2, 3)), Input((2, 1))
        named = [{"name": "x", "shape": [2, 3], "used": True}, {"name": "y", "shape": [2, 1], "used": True}]
        return Unbatched(Model([x, y], layer(L.Add()(x, y))), named, [{"name": "z", "from": 0}])

    return Branch(model(L.Linear(3)), model(other))


IMAGE = (4, 5, 2)

CASES: dict[str, list[Case]] = {
    "Conv1d": [case(lambda: L.Conv1d(3, 3, padding="same"), (5, 2)), case(lambda: L.Conv1d(4, 2, groups=2), (4, 4))],
    "Conv2d": [
        case(lambda: L.Conv2d(3, 3), IMAGE),
        case(lambda: L.Conv2d(4, (3, 2), stride=2, padding=((1, 0), (0, 1)), dilation=(1, 2), groups=2), IMAGE),
        case(lambda: L.Conv2d(2, 1, bias=False), IMAGE),
    ],
    "Conv3d": [case(lambda: L.Conv3d(2, 2, padding=1, stride=(1, 2, 1)), (2, 3, 2, 1))],
    "ConvTranspose1d": [case(lambda: L.ConvTranspose1d(3, 3, stride=2, output_padding=1), (4, 2))],
    "ConvTranspose2d": [
        case(lambda: L.ConvTranspose2d(3, 3, stride=2, padding="same"), (3, 2, 2)),
        case(lambda: L.ConvTranspose2d(4, 2, groups=2, bias=False), (3, 2, 2)),
    ],
    "ConvTranspose3d": [case(lambda: L.ConvTranspose3d(1, 2, stride=2), (2, 1, 2, 2))],
    "DepthwiseConv2d": [
        case(lambda: L.DepthwiseConv2d(3, 2, padding=1), IMAGE),
        case(lambda: L.DepthwiseConv2d(2, stride=2, bias=False), IMAGE),
    ],
    "SeparableConv2d": [
        case(lambda: L.SeparableConv2d(3, 3, multiplier=2, padding="same"), IMAGE),
        case(lambda: L.SeparableConv2d(3, 2, bias=False), IMAGE),
    ],
    "LocallyConnected1d": [case(lambda: L.LocallyConnected1d(3, 2, padding=1), (4, 2))],
    "LocallyConnected2d": [
        case(lambda: L.LocallyConnected2d(2, 2, stride=2), IMAGE),
        case(lambda: L.LocallyConnected2d(2, (1, 2), bias=False), IMAGE),
    ],
    "MaxPool1d": [case(lambda: L.MaxPool1d(3, 1, padding=1), (5, 2))],
    "MaxPool2d": [case(lambda: L.MaxPool2d(), IMAGE), case(lambda: L.MaxPool2d((2, 3), 1, dilation=(2, 1)), IMAGE)],
    "MaxPool3d": [case(lambda: L.MaxPool3d(2, ceil_mode=True), (3, 2, 3, 2))],
    "AvgPool1d": [case(lambda: L.AvgPool1d(3, 2, padding=1, count_include_pad=True), (5, 2))],
    "AvgPool2d": [case(lambda: L.AvgPool2d(), IMAGE), case(lambda: L.AvgPool2d(3, 2, padding="same"), IMAGE)],
    "AvgPool3d": [case(lambda: L.AvgPool3d(2, ceil_mode=True), (3, 2, 3, 2))],
    "AdaptiveAvgPool1d": [case(lambda: L.AdaptiveAvgPool1d(2), (5, 2))],
    "AdaptiveAvgPool2d": [case(lambda: L.AdaptiveAvgPool2d((3, 2)), IMAGE)],
    "AdaptiveAvgPool3d": [case(lambda: L.AdaptiveAvgPool3d(2), (3, 2, 3, 2))],
    "AdaptiveMaxPool1d": [case(lambda: L.AdaptiveMaxPool1d(2), (5, 2))],
    "AdaptiveMaxPool2d": [case(lambda: L.AdaptiveMaxPool2d((3, 2)), IMAGE)],
    "AdaptiveMaxPool3d": [case(lambda: L.AdaptiveMaxPool3d(2), (3, 2, 3, 2))],
    "GlobalAvgPool": [case(lambda: L.GlobalAvgPool(), IMAGE), case(lambda: L.GlobalAvgPool(keepdims=True), (3, 2))],
    "GlobalMaxPool": [case(lambda: L.GlobalMaxPool(), IMAGE), case(lambda: L.GlobalMaxPool(keepdims=True), (3, 2))],
    "Linear": [
        case(lambda: L.Linear(3), (4,), any_rank=True),
        case(lambda: L.Linear(2, bias=False), IMAGE, any_rank=True),
    ],
    "Flatten": [case(lambda: L.Flatten(), IMAGE, any_rank=True)],
    "Reshape": [
        case(lambda: L.Reshape((2, -1)), IMAGE, any_rank=True),
        case(lambda: L.Reshape([6]), (3, 2), any_rank=True),
        case(lambda: L.Reshape([2, None, -1], copy=[2]), (2, 3, 4), any_rank=True),
    ],
    "Dropout": [case(lambda: L.Dropout(0.3), IMAGE, any_rank=True)],
    "SpatialDropout": [case(lambda: L.SpatialDropout(0.3), IMAGE, any_rank=True)],
    "AlphaDropout": [case(lambda: L.AlphaDropout(0.3), IMAGE, any_rank=True)],
    **{
        name: [case(getattr(L, name), IMAGE, any_rank=True)]
        for name in ("Sign", "Floor", "Ceil", "Round", "Sin", "Cos", "Arctan", "Sinh", "Cosh", "Arcsinh")
    },
    "Logic": [
        case(lambda: L.Logic("and"), (3, 2), (3, 1), integers=(0, 1), any_rank=True),
        case(lambda: L.Logic("xor"), (3, 2), (3, 2), integers=(0, 1), any_rank=True),
    ],
    "StochasticDepth": [case(lambda: L.StochasticDepth(0.3), IMAGE, any_rank=True)],
    "BatchNorm": [
        case(lambda: L.BatchNorm(), IMAGE, any_rank=True),
        case(lambda: L.BatchNorm(momentum=0.5, eps=0.1), (3,), any_rank=True),
    ],
    "LayerNorm": [case(lambda: L.LayerNorm(), (3, 4), any_rank=True)],
    "GroupNorm": [case(lambda: L.GroupNorm(2), (3, 2, 4))],
    "ReLU": [case(lambda: L.ReLU(), IMAGE, any_rank=True)],
    "ReLU6": [case(lambda: L.ReLU6(), IMAGE, any_rank=True)],
    "LeakyReLU": [case(lambda: L.LeakyReLU(0.2), IMAGE, any_rank=True)],
    "PReLU": [case(lambda: L.PReLU(), IMAGE, any_rank=True)],
    "ELU": [case(lambda: L.ELU(0.5), IMAGE, any_rank=True)],
    "SELU": [case(lambda: L.SELU(), IMAGE, any_rank=True)],
    "GELU": [case(lambda: L.GELU(), IMAGE, any_rank=True), case(lambda: L.GELU(approximate=True), (4,), any_rank=True)],
    "SiLU": [case(lambda: L.SiLU(), IMAGE, any_rank=True)],
    "HardSwish": [case(lambda: L.HardSwish(), IMAGE, any_rank=True)],
    "HardSigmoid": [case(lambda: L.HardSigmoid(), IMAGE, any_rank=True)],
    "Sigmoid": [case(lambda: L.Sigmoid(), IMAGE, any_rank=True)],
    "Tanh": [case(lambda: L.Tanh(), IMAGE, any_rank=True)],
    "Softmax": [case(lambda: L.Softmax(), (3, 4), any_rank=True)],
    "Softplus": [case(lambda: L.Softplus(), IMAGE, any_rank=True)],
    "Add": [
        case(lambda: L.Add(), IMAGE, IMAGE, IMAGE, any_rank=True),
        case(lambda: L.Add(), (1, 1, 2), IMAGE, any_rank=True),
        case(lambda: L.Add(), (3,), any_rank=True),
    ],
    "Multiply": [
        case(lambda: L.Multiply(), IMAGE, IMAGE, IMAGE, any_rank=True),
        case(lambda: L.Multiply(), IMAGE, (1, 1, 2)),
        case(lambda: L.Multiply(), (3,), any_rank=True),
    ],
    "Concat": [case(lambda: L.Concat(), (3, 2), (3, 1), (3, 3)), case(lambda: L.Concat(1), (2, 2), (1, 2))],
    "Upsample": [
        case(lambda: L.Upsample((2, 3)), (2, 3, 2)),
        case(lambda: L.Upsample(2, mode="bilinear"), (3, 2)),
    ],
    "ZeroPad": [case(lambda: L.ZeroPad(), IMAGE), case(lambda: L.ZeroPad(((0, 2),)), (3, 2))],
    "AddCoords": [case(lambda: L.AddCoords(radius=True), IMAGE), case(lambda: L.AddCoords(), (3, 1))],
    **{
        name: [case(lambda name=name: getattr(L, name)(), IMAGE, any_rank=True)]
        for name in ("Abs", "Erf", "Exp", "Square", "Mish", "Softsign", "CELU", "ThresholdedReLU")
    },
    **{
        name: [positive_case(lambda name=name: getattr(L, name)(), IMAGE, any_rank=True)]
        for name in ("Log", "Sqrt", "Reciprocal")
    },
    **{
        name: [case_within(*ends, lambda name=name: getattr(L, name)(), IMAGE, any_rank=True)]
        for name, ends in (
            ("Tan", (-1.2, 1.2)),
            ("Arcsin", (-0.8, 0.8)),
            ("Arccos", (-0.8, 0.8)),
            ("Arccosh", (1.2, 4.0)),
            ("Arctanh", (-0.8, 0.8)),
            ("Arcsin", (-0.8, 0.8)),
            ("Arccos", (-0.8, 0.8)),
            ("Arccosh", (1.2, 4.0)),
            ("Arctanh", (-0.8, 0.8)),
        )
    },
    "Clip": [
        case(lambda: L.Clip(-1.0, 1.5), IMAGE, any_rank=True),
        case(lambda: L.Clip(high=2.1), (3,), any_rank=True),
    ],
    "ScaleShift": [case(lambda: L.ScaleShift(2.0, -1.0), IMAGE, any_rank=True)],
    "LogSoftmax": [case(lambda: L.LogSoftmax(), (3, 4), any_rank=True)],
    "Subtract": [case(lambda: L.Subtract(), IMAGE, (1, 1, 2))],
    "Divide": [positive_case(lambda: L.Divide(), IMAGE, (1, 1, 2))],
    "Modulo": [
        positive_case(lambda: L.Modulo(), (3, 2), (3, 1)),
        positive_case(lambda: L.Modulo(truncated=True), (3, 2), (3, 1)),
    ],
    "Power": [positive_case(lambda: L.Power(), (3, 2), (3, 1))],
    "Maximum": [case(lambda: L.Maximum(), IMAGE, (1, 5, 2), (4, 1, 1))],
    "Minimum": [case(lambda: L.Minimum(), (3, 2), (3, 1))],
    "Where": [case(lambda: L.Where(), (1, 2), (3, 2), (3, 1), integers=(0,))],
    "Compare": [
        case(lambda: L.Compare("less"), (3, 2), (3, 1)),
        case(lambda: L.Compare("equal"), (3,), (3,), any_rank=True),
    ],
    "Transpose": [case(lambda: L.Transpose((3, 1, 2)), IMAGE)],
    "Unsqueeze": [case(lambda: L.Unsqueeze((1, -1)), (3, 2), any_rank=True)],
    "Squeeze": [case(lambda: L.Squeeze((2,)), (3, 1, 2), any_rank=True)],
    "Slice": [
        case(lambda: L.Slice((1, -1), (1, None), (None, -1), (2, 1)), IMAGE, any_rank=True),
        case(lambda: L.Slice(1, -1, None, -2), (5, 2), any_rank=True),
    ],
    "Gather": [
        case(lambda: L.Gather(), (3, 2), (2, 2), integers=(1,), any_rank=True),
        case(lambda: L.Gather(-1), (3, 2), (), integers=(1,), any_rank=True),
    ],
    "Expand": [case(lambda: L.Expand((4, 1, 2)), (1, 3, 2))],
    "Tile": [case(lambda: L.Tile((2, 3)), (2, 2))],
    "Split": [case(lambda: L.Split((1, 3)), (3, 4), any_rank=True), case(lambda: L.Split((2, 1, 1), 1), (4, 2))],
    "DepthToSpace": [
        case(lambda: L.DepthToSpace(2), (2, 3, 8)),
        case(lambda: L.DepthToSpace(2, order="CRD"), (1, 2, 8)),
    ],
    "Fold": [
        case(lambda: L.Fold((4, 5), (2, 3), stride=(1, 2), padding=1), (15, 12)),
        case(lambda: L.Fold((7,), 2, stride=2, dilation=3, padding=((1, 0),)), (3, 4)),
        case(lambda: L.Fold((2, 3, 2), 2, padding=((0, 1), (0, 0), (1, 1))), (12, 8)),
    ],
    "SpaceToDepth": [
        case(lambda: L.SpaceToDepth(2), (4, 2, 2)),
        case(lambda: L.SpaceToDepth(2, order="CRD"), (2, 4, 3)),
    ],
    "Einsum": [
        case(lambda: L.Einsum("ij,jk->ik"), (2, 3), (3, 4)),
        case(lambda: L.Einsum("...i,i"), (2, 3), (3,), any_rank=True),
        case(lambda: L.Einsum("iij->j"), (2, 2, 3)),
    ],
    "MatMul": [case(lambda: L.MatMul(), (2, 3), (3, 4)), case(lambda: L.MatMul(), (1, 2, 3), (2, 3, 1))],
    "ReduceSum": [case(lambda: L.ReduceSum((1, 2)), IMAGE, any_rank=True)],
    "ReduceMean": [case(lambda: L.ReduceMean((-1,), keepdims=True), IMAGE, any_rank=True)],
    "ReduceProd": [case(lambda: L.ReduceProd((1, -1)), (2, 2, 2), any_rank=True)],
    "ReduceMin": [case(lambda: L.ReduceMin((1, -1), keepdims=True), IMAGE, any_rank=True)],
    "ReduceMax": [case(lambda: L.ReduceMax((1, -1)), IMAGE, any_rank=True)],
    "ReduceL2": [positive_case(lambda: L.ReduceL2(), (3, 4), any_rank=True)],
    "CumSum": [
        case(lambda: L.CumSum(), IMAGE, any_rank=True),
        case(lambda: L.CumSum(1, exclusive=True, reverse=True), (3, 4), any_rank=True),
    ],
    "ArgMax": [
        case(lambda: L.ArgMax(), (3, 4), any_rank=True),
        case(lambda: L.ArgMax(1, keepdims=True, last=True), (3, 4), any_rank=True),
    ],
    "TopK": [
        case(lambda: L.TopK(2), (3, 4), any_rank=True),
        case(lambda: L.TopK(1, 1, largest=False), (3, 2), any_rank=True),
        case(lambda: L.TopK(None, 1), (3, 2), any_rank=True),
    ],
    "LocalResponseNorm": [
        case(lambda: L.LocalResponseNorm(4, alpha=0.5), (2, 3, 6), any_rank=True),
        case(lambda: L.LocalResponseNorm(3, alpha=0.5), (4, 6), any_rank=True),
    ],
    "LpPool1d": [positive_case(lambda: L.LpPool1d(3, 2, p=3, padding=1), (5, 2))],
    "LpPool2d": [positive_case(lambda: L.LpPool2d(2, 1, dilation=2, ceil_mode=True), IMAGE)],
    "LpPool3d": [positive_case(lambda: L.LpPool3d(2), (2, 3, 2, 1))],
    "Pad": [
        case(lambda: L.Pad([(1, 0), (-1, 2), (0, 1)], value=0.5), IMAGE),
        case(lambda: L.Pad([(2, 3), (0, 0)], mode="reflect"), (3, 2)),
        case(lambda: L.Pad([(2, 1), (1, 0)], mode="wrap"), (3, 2)),
        case(lambda: L.Pad([(2, 3)], mode="edge"), (3,)),
    ],
    "Resize": [
        case(lambda: L.Resize(size=[3, 4], antialias=True), (5, 4, 2)),
        case(lambda: L.Resize([1.6, 0.6], mode="linear"), IMAGE),
        case(lambda: L.Resize(size=[7], mode="cubic", coordinates="align_corners", exclude_outside=True), (5, 2)),
        case(lambda: L.Resize([0.5, 1.0], mode="cubic", antialias=True), IMAGE),
        case(lambda: L.Resize(size=[3], coordinates="tf_crop_and_resize", region=[(0.2, 1.4)], mode="linear"), (5, 2)),
    ],
    "MaxPoolWithIndices": [
        case(lambda: L.MaxPoolWithIndices([2]), (5, 2)),
        case(lambda: L.MaxPoolWithIndices([2, 3], 1, padding=1, column_major=True), IMAGE),
    ],
    "MaxUnpool": [
        case(lambda: L.MaxUnpool([4]), (2, 3), (2, 3), integers=(1,), any_rank=True),
        case(lambda: L.MaxUnpool([5, 4], counted=[2, 3]), (2, 2, 1), (2, 2, 1), integers=(1,), any_rank=True),
    ],
    "ResizeLike": [
        case(lambda: L.ResizeLike(mode="linear"), (3, 2), (5, 1)),
        case(lambda: L.ResizeLike(mode="cubic"), (4, 2), (7, 1)),
    ],
    "ReshapeLike": [case(lambda: L.ReshapeLike(), (6, 2), (3, 4), any_rank=True)],
    "FixedDropout": [case(lambda: L.FixedDropout(0.4, 3), IMAGE, any_rank=True)],
    "GridSample": [
        case(lambda: L.GridSample(), (4, 3, 2), (2, 3, 2)),
        case(lambda: L.GridSample(mode="cubic", padding="border", align_corners=True), (5, 2), (3, 1)),
        case(lambda: L.GridSample(mode="linear", padding="reflection"), (3, 2, 3, 1), (1, 2, 1, 3)),
        case(lambda: L.GridSample(mode="nearest"), (4, 3, 2), (2, 3, 2)),
    ],
    "RoiAlign": [
        case(lambda: L.RoiAlign([2, 2], samples=2), (1, 5, 4, 2), (3, 4), (3,), integers=(2,)),
        case(lambda: L.RoiAlign([1, 2], samples=1, reduce="max"), (1, 5, 4, 2), (3, 4), (3,), integers=(2,)),
    ],
    "NonMaxSuppression": [
        case(lambda: L.NonMaxSuppression(2, overlap=0.3), (1, 5, 4), (1, 2, 5)),
        case(lambda: L.NonMaxSuppression(3, overlap=0.1, threshold=0.2), (2, 5, 4), (2, 3, 5)),
    ],
    "NonZero": [
        case(lambda: L.NonZero(), (3, 2), ones=(0,), any_rank=True),
        case(lambda: L.NonZero(), (4,), ones=(0,), any_rank=True),
    ],
    "GatherElements": [
        case(lambda: L.GatherElements(), (3, 4), (2, 3), integers=(1,), any_rank=True),
        case(lambda: L.GatherElements(1), (3, 2), (5, 1), integers=(1,), any_rank=True),
    ],
    "GatherND": [
        case(lambda: L.GatherND(), (3, 4, 2), (5, 2), integers=(1,), any_rank=True),
        case(lambda: L.GatherND(shared=1), (3, 4, 2), (3, 2, 1), integers=(1,), any_rank=True),
    ],
    "ScatterElements": [
        case(lambda how=how: L.ScatterElements(1, reduce=how), (3, 4), (2, 3), (2, 3), integers=(1,))
        for how in ("none", "add", "mul")
    ],
    "ScatterND": [
        case(lambda how=how: L.ScatterND(reduce=how), (3, 4, 2), (5, 2), (5, 2), integers=(1,))
        for how in ("none", "add", "mul")
    ],
    "ShapeOf": [case(lambda: L.ShapeOf((1, -1)), IMAGE, integers=(0,), any_rank=True)],
    "DynamicArguments": [
        case(lambda: L.DynamicArguments(L.Slice((1, 2), (1, 1)), ["start"]), (4, 3), (2,), ones=(1,), any_rank=True),
        case(lambda: L.DynamicArguments(L.TopK(1, 1), ["k"]), (4, 3), (), ones=(1,), any_rank=True),
        case(lambda: L.DynamicArguments(L.Expand((1, 1)), ["shape"]), (4, 3), (2,), ones=(1,), any_rank=True),
        case(lambda: L.DynamicArguments(L.Reshape((1, 1)), ["shape"]), (1,), (2,), ones=(1,), any_rank=True),
    ],
    "Branch": [
        case(lambda: _branch(L.Tanh()), (), (2, 3), (2, 1), integers=(0,), any_rank=True),
        case(lambda: _branch(L.Linear(3)), (), (2, 3), (2, 1), ones=(0,), any_rank=True),
    ],
    "RNN": [
        case(lambda: L.RNN(3), (4, 2)),
        case(lambda: L.RNN(2, activation="relu", direction="backward", states=True), (3, 2), (1, 2)),
        case(lambda: L.RNN(2, direction="backward", lengths=True), (3, 2), (), ones=(1,)),
    ],
    "GRU": [
        case(lambda: L.GRU(2, direction="both", states=True), (3, 2), (2, 2)),
        case(lambda: L.GRU(3, reset_after=False), (3, 2), (1, 3)),
        case(lambda: L.GRU(2, states=True, lengths=True), (4, 2), (), (1, 2), ones=(1,)),
    ],
    "LSTM": [
        case(lambda: L.LSTM(2, direction="both", states=True), (3, 2), (2, 2), (2, 2)),
        case(lambda: L.LSTM(3, direction="backward"), (4, 2)),
        case(lambda: L.LSTM(2, peepholes=True, direction="both"), (3, 2)),
        case(lambda: L.LSTM(2, direction="both", states=True, lengths=True), (4, 2), (), ones=(1,)),
    ],
    "Partial": [
        case(lambda: L.Partial(L.Subtract(), [[1, [1, 2], "float", True]]), (3, 2)),
        case(lambda: L.Partial(L.Gather(), [[1, [2], "int64", False]]), (3, 2), any_rank=True),
    ],
    "TimeDistributed": [case(lambda: L.TimeDistributed(L.Conv1d(3, 2)), (2, 4, 2))],
    "Discrete": [case(lambda: L.Discrete(L.Add()), (3, 2), (3, 1), integers=(0, 1), any_rank=True)],
    "Cast": [case(lambda: L.Cast("int64"), (3, 2), integers=(0,), any_rank=True)],
    "Not": [case(lambda: L.Not(), (3, 2), integers=(0,), any_rank=True)],
    "Model": [case(_residual, (4, 4, 2)), case(_two_in_two_out, (3, 2), (3, 2))],
    "Unbatched": [case(_unbatched, (4, 3), any_rank=True)],
    "Sequential": [case(lambda: Sequential([L.Conv1d(2, 2), L.Tanh(), L.Linear(3)], input_shape=(4, 2)), (4, 2))],
}

ALL = [(name, each) for name, cases in CASES.items() for each in cases]
IDS = [f"{name}-{number}" for name, cases in CASES.items() for number in range(len(cases))]


def inputs(case: Case, batch: int = 2, dtype: Any = np.float64, seed: int = 0) -> list[np.ndarray]:
    """Return random inputs, none of them near a kink and no two equal."""
    rng = np.random.default_rng(seed)
    xs = []
    for at, shape in enumerate(case.shapes):
        size = int(np.prod((batch, *shape)))
        if at in case.ones:
            xs.append(np.ones((batch, *shape), np.int64))
            continue
        if at in case.integers:
            xs.append(rng.integers(-1, 1, (batch, *shape)))
            continue
        values = (np.arange(size) + 0.5 - size // 2) * (8.0 / max(size, 1))  # from -4 to 4
        low, high = case.within
        values = (low + high) / 2 + values * ((high - low) / 8)
        xs.append(rng.permutation(values).reshape(batch, *shape).astype(dtype))
    return xs


def built(case: Case, dtype: Any = np.float64) -> Layer:
    """Return the layer, built with random parameters of every kind: none stays at 0 or 1, where errors hide."""
    layer = case.make()
    layer.astype(dtype)
    rng = np.random.default_rng(1)
    layer.build(*case.shapes, rng=rng)
    layer.astype(dtype)
    for kind in ("params", "buffers"):
        for array in getattr(layer, kind).values():
            array[...] = rng.uniform(0.3, 1.2, array.shape)
    return layer


def context(training: bool = True, **options: Any) -> Context:
    return Context(training, np.random.default_rng(7), **options)


def as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
