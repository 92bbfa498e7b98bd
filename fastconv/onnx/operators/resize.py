"""Resizing of images."""

from __future__ import annotations

import math
from typing import Any

from fastconv import layers as L
from fastconv.onnx.builder import Builder, Operand
from fastconv.onnx.errors import OnnxImportError
from fastconv.onnx.files import Node
from fastconv.onnx.table import register
from fastconv.onnx.values import Constant, Value, last_first

#: The sizes that are asked for along axes, each for two sizes of the inputs.
Sizes = list[tuple[int, int]]


@register("Resize")
def resize(
    b: Builder,
    node: Node,
    x: Operand,
    roi: Operand | None = None,
    scales: Operand | None = None,
    sizes: Operand | None = None,
) -> Any:
    if isinstance(x, Constant) and sizes is not None and not _empty(sizes):
        return _held(b, node, x, sizes)
    x = b.value(x)
    if node.opset < 11:  # the second operand is the scales, and places are counted from the corner
        return _from_corner(b, node, x, _floats(b, roi, "scales"))
    axes = [axis % b.rank(x) for axis in node.get("axes") or range(b.rank(x))]
    factors = _floats(b, scales, "scales") if scales is not None and not _empty(scales) else None
    wanted = _wanted(b, x, axes, sizes) if sizes is not None and not _empty(sizes) else None
    b.require((factors is None) != (wanted is None), "either scales or sizes must be given")
    if isinstance(wanted, Value):
        layer: L.Layer = L.ResizeLike(**_arguments(node, b))
        pair = [b.channels_last(x), wanted]
        return b.emit(layer if b.batched else L.TimeDistributed(layer), pair, [pair[0].order], [x.dtype])
    region = _floats(b, roi, "roi") if roi is not None and not _empty(roi) else None
    coordinates = node.get("coordinate_transformation_mode", "half_pixel")
    return _resized(
        b, node, x, axes, factors, wanted, coordinates, node.get("nearest_mode", "round_prefer_floor"), region
    )


@register("Upsample")
def upsample(b: Builder, node: Node, x: Operand, scales: Operand | None = None) -> Any:
    x = b.value(x)
    factors = _floats(b, scales, "scales") if scales is not None else node.get("scales")
    b.require(factors is not None, "the scales are missing")
    return _resized(b, node, x, list(range(b.rank(x))), factors, None, "asymmetric", "floor")


def _from_corner(b: Builder, node: Node, x: Value, factors: list[float]) -> Any:
    """Return what version 10 means: the next pixel towards the corner where an axis grows, away from it where it shrinks."""
    steps = [(factors, "floor")]
    if node.get("mode", "nearest") == "nearest":
        steps = [([min(s, 1.0) for s in factors], "ceil"), ([max(s, 1.0) for s in factors], "floor")]
    for each, rounding in steps:
        made: Any = _resized(b, node, x, list(range(b.rank(x))), each, None, "asymmetric", rounding)
        x = made[0] if isinstance(made, list) else made
    return x


def _held(b: Builder, node: Node, x: Constant, sizes: Operand) -> Value:
    """Return a constant, such as what is learned for each place of an image, in the size of another image."""
    axes = [axis % x.rank for axis in node.get("axes") or range(x.rank)]
    like = _wanted(b, x, axes, sizes)
    if not isinstance(like, Value) or x.rank < 3:
        return b.value(x)  # which says that this is not supported
    layer: L.Layer = L.ResizeLike(**_arguments(node, b))
    order = last_first(x.rank - b.offset, 1 - b.offset)
    array = b.per_sample(x, x.rank).transpose(order)
    held = Constant(array, None, x.learned)
    return b.call(layer if b.batched else L.TimeDistributed(layer), [held, like], order, [x.dtype])[0]


def _arguments(node: Node, b: Builder) -> dict[str, Any]:
    """Return how another image gives the size: everything but the sizes."""
    coordinates = node.get("coordinate_transformation_mode", "half_pixel")
    stretch = node.get("keep_aspect_ratio_policy", "stretch") == "stretch"
    b.require(coordinates != "tf_crop_and_resize" and stretch, "its sizes depend on those of the inputs")
    return {
        "mode": node.get("mode", "nearest"),
        "coordinates": coordinates,
        "rounding": node.get("nearest_mode", "round_prefer_floor"),
        "cubic": node.get("cubic_coeff_a", -0.75),
        "exclude_outside": bool(node.get("exclude_outside", 0)),
        "antialias": bool(node.get("antialias", 0)),
    }


def _empty(x: Operand) -> bool:
    return not isinstance(x, Value) and x.array.size == 0


def _wanted(b: Builder, x: Operand, axes: list[int], sizes: Operand) -> Sizes | Value:
    """Return the sizes that are asked for, or another image that has them where they are open.

    Where a size is that of the input, whatever that is, the axis stays.
    """
    first, second = b.both(sizes, "sizes")
    both = b.shapes(x) if isinstance(x, Value) else (x.array.shape,) * 2
    whole, again = (list(each) for each in both)
    b.require(len(first) == len(axes), f"one size for each of {len(axes)} axes, got {first}")
    moves = False
    for axis, n, m in zip(axes, first, second, strict=True):
        moves = moves or (n != m and (n, m) != (whole[axis], again[axis]))
        whole[axis], again[axis] = n, m
    asked = list(zip(first, second, strict=True))
    if not moves:
        return asked
    stays = [whole[:2], again[:2]] == [list(each[:2]) for each in both]
    like = b.of_size(tuple(whole[2:]), tuple(again[2:]), x.dtype) if stays else None
    if like is None:
        b.integers(sizes, "sizes")
        return asked
    return like


def _floats(b: Builder, x: Operand | None, what: str) -> list[float]:
    array = b.array(x, what)
    b.require(
        array.ndim == 1 and array.dtype.kind in "fiu", f"{what} must be a row of numbers, got shape {array.shape}"
    )
    return [float(n) for n in array]


def _resized(
    b: Builder,
    node: Node,
    x: Value,
    axes: list[int],
    factors: list[float] | None,
    wanted: Sizes | None,
    coordinates: str,
    rounding: str,
    region: list[float] | None = None,
) -> Any:
    rank = b.rank(x)
    given: list[Any] = factors if factors is not None else [n for n, _ in wanted or ()]
    b.require(len(given) == len(axes) and len(set(axes)) == len(axes), f"one scale or size for each axis, got {given}")
    asked = dict(zip(axes, given, strict=True))
    whole, again = b.shapes(x)
    stay = {
        axis
        for at, axis in enumerate(axes)
        if (given[at] == 1 if wanted is None else wanted[at] == (whole[axis], again[axis]))
    }
    regions = dict(zip(axes, zip(region[: len(axes)], region[len(axes) :], strict=True), strict=True)) if region else {}
    mode = node.get("mode", "nearest").replace("bilinear", "linear")
    arguments: dict[str, Any] = {
        "mode": mode,
        "coordinates": coordinates,
        "rounding": rounding,
        "cubic": node.get("cubic_coeff_a", -0.75),
        "exclude_outside": bool(node.get("exclude_outside", 0)),
        "antialias": bool(node.get("antialias", 0)),
        "outside": node.get("extrapolation_value", 0.0),
    }
    scale = None
    if factors is None:
        asked, scale = _kept_in_proportion(node, x, b, asked)
        if scale is not None:
            stay = {axis for axis, n in asked.items() if n == whole[axis]}
    crops = coordinates == "tf_crop_and_resize"
    moves = [
        axis for axis in sorted(asked) if axis not in stay or (crops and regions.get(axis, (0.0, 1.0)) != (0.0, 1.0))
    ]
    if not moves:
        return x
    outer = [axis for axis in moves if axis < 2]
    if rank >= 3 and not outer:
        spatial = range(2, rank)
        used = [asked.get(axis, 1.0 if factors is not None else whole[axis]) for axis in spatial]
        if factors is not None or all(axis in moves or whole[axis] == again[axis] for axis in spatial):
            pairs = [regions.get(axis, (0.0, 1.0)) for axis in spatial]
            if scale is not None:
                arguments["scale"] = [scale if axis in asked else 1.0 for axis in spatial]
            return b.image(_layer(used, factors is not None, pairs if regions else None, arguments), x)
    # any tensor: its axes as those of an image of one channel
    if b.batched:
        from fastconv.onnx.errors import NotBatchedError

        raise NotBatchedError
    if rank > 3 and len(moves) > 3:
        raise OnnxImportError(f"{node.label}: at most three axes can be resized at once, got {moves}")
    lead = [axis for axis in range(rank) if axis not in moves]
    turned = b.arranged(x, (*lead, *moves))
    both = [[sizes[axis] for axis in lead] for sizes in (whole, again)]
    flat = b.reshaped(
        turned._replace(order=tuple(range(rank))),
        *((math.prod(sizes), *(n[axis] for axis in moves), 1) for sizes, n in zip(both, (whole, again), strict=True)),
    )
    used = [asked[axis] for axis in moves]
    pairs = [regions.get(axis, (0.0, 1.0)) for axis in moves]
    if scale is not None:
        arguments["scale"] = [scale] * len(moves)
    layer = _layer(used, factors is not None, pairs if regions else None, arguments)
    made = b.one(L.TimeDistributed(layer), flat)
    back = b.reshaped(made, (*both[0], *made.shape[1:-1]), (*both[1], *made.other_shape[1:-1]))
    return back._replace(order=(*lead, *moves))


def _layer(asked: list[Any], scaled: bool, regions: Any, arguments: dict[str, Any]) -> L.Layer:
    plain = {"exclude_outside", "antialias"}
    if scaled and all(float(s).is_integer() and s >= 1 for s in asked) and not any(arguments[name] for name in plain):
        whole = [int(s) for s in asked]
        mode, coordinates = arguments["mode"], arguments["coordinates"]
        if mode == "nearest" and (
            (coordinates == "asymmetric" and arguments["rounding"] == "floor")
            or (coordinates == "half_pixel" and arguments["rounding"].startswith("round") and max(whole) <= 2)
        ):
            return L.Upsample(whole)
        if mode == "linear" and coordinates == "half_pixel":
            return L.Upsample(whole, mode="bilinear")
    given: dict[str, Any] = {**arguments, "scale" if scaled else "size": asked}
    return L.Resize(region=regions, **given)


def _kept_in_proportion(node: Node, x: Value, b: Builder, asked: dict[int, int]) -> tuple[dict[int, int], float | None]:
    """Return the sizes that are meant where the image shall keep its proportions, and the scale that is used then."""
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return asked, None
    whole, again = b.shapes(x)
    b.require(all(whole[axis] == again[axis] for axis in asked), "its sizes depend on those of the inputs")
    ratios = [n / whole[axis] for axis, n in asked.items()]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return {axis: int(scale * whole[axis] + 0.5) for axis in asked}, scale
