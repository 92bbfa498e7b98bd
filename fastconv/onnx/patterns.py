"""Operators that exporters spell out in several nodes, put together again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastconv.onnx.errors import OnnxImportError
from fastconv.onnx.files import File, Node, in_order
from fastconv.onnx.folding import fold, foldable, result_size

#: How many nodes before a constant are computed to know it, and how many numbers each may make.
DEPTH, MOST = 6, 2**20


class Found(NamedTuple):
    """Nodes that have a simpler spelling, the last of them last, that spelling, and its constants."""

    nodes: list[Node]
    instead: list[Node]
    constants: dict[str, np.ndarray]


def joined(file: File) -> File:
    """Return the graph with simpler nodes where writers spell out what there is an operator for: `PATTERNS`."""
    begun = [node for node in file.nodes if node.key in PATTERNS]
    if not begun:
        return file
    graph = _Graph(file)
    found = [each for node in begun if (each := PATTERNS[node.key](graph, node))]
    if not found:
        return file
    instead = {id(each.nodes[-1]): each.instead for each in found}
    gone = {id(node) for each in found for node in each.nodes[:-1]}
    nodes = [new for node in file.nodes if id(node) not in gone for new in instead.get(id(node), [node])]
    constants = {**file.constants, **{name: array for each in found for name, array in each.constants.items()}}
    inputs, outputs = ([each.name for each in some] for some in (file.inputs, file.outputs))
    try:
        return file._replace(nodes=in_order(nodes, inputs, constants, outputs), constants=constants)
    except OnnxImportError:  # a value that is gone now is what another is cast like
        return file


class _Graph:
    """Who makes and who reads the values of a file."""

    def __init__(self, file: File) -> None:
        self.constants = file.constants
        self.makers = {name: node for node in file.nodes for name in node.outputs if name}
        self.outputs = {each.name for each in file.outputs}
        self.readers: dict[str, list[Node]] = {}
        for node in file.nodes:
            for name in node.inputs[:1] if node.key == "CastLike" else node.inputs:  # which needs a dtype only
                self.readers.setdefault(name, []).append(node)

    def maker(self, name: str, op: str) -> Node | None:
        """Return the node that makes a value, where it is of this operator."""
        node = self.makers.get(name)
        return node if node is not None and node.key == op else None

    def reader(self, node: Node, op: str) -> Node | None:
        """Return the node that alone reads what another makes, where it is of this operator."""
        name = node.outputs[0]
        readers = self.readers.get(name, []) if name and name not in self.outputs else []
        return readers[0] if len(readers) == 1 and readers[0].key == op else None

    def constant(self, name: str, depth: int = DEPTH) -> np.ndarray | None:
        """Return a value that is known."""
        if name in self.constants:
            return self.constants[name]
        node = self.makers.get(name)
        if node is None or depth == 0 or not foldable(node):
            return None
        if node.op == "CastLike":  # like what is not known
            return self.constant(node.inputs[0], depth - 1) if node.inputs else None
        inputs = [self.constant(each, depth - 1) if each else None for each in node.inputs]
        if any(each and array is None for each, array in zip(node.inputs, inputs, strict=True)):
            return None
        try:
            return fold(node, inputs)[node.outputs.index(name)] if result_size(node, inputs) <= MOST else None
        except Exception:  # whoever needs it will say what is wrong
            return None


def _group_norm(graph: _Graph, norm: Node) -> Found | None:
    """Return the group normalization that ``Reshape, InstanceNormalization, Reshape, Mul, Add`` is.

    PyTorch's older writer makes the groups the instances of an instance normalization; scale and bias of the channels follow.
    """
    after = graph.reader(norm, "Reshape")
    before = graph.maker(norm.inputs[0], "Reshape") if len(norm.inputs) == 3 else None
    if before is None or after is None or graph.reader(before, norm.key) is not norm:
        return None
    if len(before.inputs) != 2 or len(after.inputs) != 2 or before.get("allowzero"):
        return None
    split, back = graph.constant(before.inputs[1]), graph.maker(after.inputs[1], "Shape")
    if (
        split is None
        or split.dtype.kind != "i"
        or split.shape != (3,)
        or split[0] != 0
        or split[1] < 1
        or split[2] != -1
    ):
        return None
    if back is None or back.inputs != before.inputs[:1] or back.get("start") or back.get("end") is not None:
        return None
    if not (_is_all(graph.constant(norm.inputs[1]), 1) and _is_all(graph.constant(norm.inputs[2]), 0)):
        return None
    return _with_scale(graph, [before, norm, after], int(split[1]))


def _with_scale(graph: _Graph, nodes: list[Node], groups: int) -> Found | None:
    """Return a normalization of groups with the scale that follows it, and perhaps a bias; None where no scale does."""
    before, norm, after = nodes
    scaled = graph.reader(after, "Mul")
    scale = None if scaled is None else _of_channels(graph, scaled, after)
    if scaled is None or scale is None or len(scale) == 1 or len(scale) % groups:
        return None
    shifted = graph.reader(scaled, "Add")
    bias = None if shifted is None else _of_channels(graph, shifted, scaled)
    last = scaled
    if shifted is not None and bias is not None and bias.shape == scale.shape:
        last = shifted
        nodes = [*nodes, scaled]
    else:
        bias = np.zeros_like(scale)
    names = [f"{last.outputs[0]}/{word}" for word in ("scale", "bias")]
    if any(name in graph.constants or name in graph.makers for name in names):
        return None
    attributes = {**norm.attributes, "num_groups": groups, "rank": scale.ndim + 1}
    inputs = (before.inputs[0], *names)
    # of version 21, since which it has a scale for each channel
    node = norm._replace(op="GroupNormalization", inputs=inputs, outputs=last.outputs, attributes=attributes, opset=21)
    constants = dict(zip(names, (scale.reshape(-1), bias.reshape(-1)), strict=True))
    return Found([*nodes, last], [node], constants)


def _label(graph: _Graph, pick: Node) -> Found | None:
    """Return what looks up a class for each sample: ``ArrayFeatureExtractor, Reshape`` to one axis.

    So scikit-learn's writer has it. The extractor makes one row for the whole batch; shaped first, the places stay samples.
    """
    after = graph.reader(pick, "Reshape")
    if after is None or len(pick.inputs) != 2 or len(after.inputs) != 2:
        return None
    classes, shape = graph.constant(pick.inputs[0]), graph.constant(after.inputs[1])
    if classes is None or classes.ndim != 1 or shape is None or shape.tolist() != [-1]:
        return None
    places = f"{after.outputs[0]}/places"
    if places in graph.constants or places in graph.makers:
        return None
    flat = after._replace(inputs=(pick.inputs[1], after.inputs[1]), outputs=(places,))
    gather = pick._replace(
        op="Gather", domain="", inputs=(pick.inputs[0], places), outputs=after.outputs, opset=after.opset
    )
    return Found([pick, after], [flat, gather], {})


def _turned(graph: _Graph, turn: Node) -> Found | None:
    """Return what cuts an array into parts first and turns them then, where turning first would put the parts before the batch.

    Queries, keys and values of attention come as ``Transpose, Gather`` or ``Transpose, Split, Squeeze`` along axis 0.
    """
    axis, *rest = turn.get("perm") or (0,)
    if axis == 0:
        return None
    turned = [place - (place > axis) for place in rest]
    readers = graph.readers.get(turn.outputs[0], [])
    if turned[:1] != [0] or not readers or turn.outputs[0] in graph.outputs:
        return None
    found = _picked(graph, turn, readers, axis) or _split(graph, turn, readers, axis)
    if found is None or any(
        name in graph.makers or name in graph.constants for node in found.instead for name in node.outputs
    ):
        return None
    made = []
    for node in found.instead:
        *_, name = node.outputs
        if name.endswith("/whole"):
            made.append(
                turn._replace(inputs=(name,), outputs=(name.removesuffix("/whole"),), attributes={"perm": turned})
            )
    return found._replace(instead=[*found.instead, *made])


def _picked(graph: _Graph, turn: Node, readers: list[Node], axis: int) -> Found | None:
    picks = [
        node
        for node in readers
        if node.key == "Gather" and not node.get("axis", 0) and node.inputs[0] == turn.outputs[0]
    ]
    places = [graph.constant(node.inputs[1]) for node in picks]
    if len(picks) < len(readers) or any(place is None or place.ndim for place in places):
        return None
    instead = [
        node._replace(
            inputs=(turn.inputs[0], node.inputs[1]), outputs=(f"{node.outputs[0]}/whole",), attributes={"axis": axis}
        )
        for node in picks
    ]
    return Found([turn, *picks], instead, {})


def _split(graph: _Graph, turn: Node, readers: list[Node], axis: int) -> Found | None:
    (cut, *others) = readers
    if others or cut.key != "Split" or cut.get("axis", 0):
        return None
    flat = [graph.reader(cut._replace(outputs=(name,)), "Squeeze") for name in cut.outputs]
    if any(node is None or _axes_of(graph, node) != [0] for node in flat):
        return None
    name = f"{turn.outputs[0]}/axes"
    parts = cut._replace(
        inputs=(turn.inputs[0], *cut.inputs[1:]),
        outputs=tuple(f"{name}/part" for name in cut.outputs),
        attributes={**cut.attributes, "axis": axis},
    )
    squeezed = [
        node._replace(
            inputs=(part, name) if node.opset >= 13 else (part,),
            outputs=(f"{node.outputs[0]}/whole",),
            attributes={} if node.opset >= 13 else {"axes": [axis]},
        )
        for part, node in zip(parts.outputs, flat, strict=True)
        if node is not None
    ]
    constants = {name: np.array([axis], np.int64)} if name not in graph.constants else {}
    return Found([turn, cut, *(node for node in flat if node is not None)], [parts, *squeezed], constants)


def _axes_of(graph: _Graph, node: Node) -> list[int] | None:
    given = graph.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return node.get("axes") if given is None else given.tolist()


def _of_channels(graph: _Graph, node: Node, before: Node) -> np.ndarray | None:
    """Return the other operand of a node where it has one number for each channel: shape ``(C, 1, ...)``."""
    others = [name for name in node.inputs if name != before.outputs[0]]
    array = graph.constant(others[0]) if len(others) == 1 else None
    return array if array is not None and array.ndim > 1 and array.size == len(array) else None


def _is_all(array: np.ndarray | None, number: float) -> bool:
    return array is not None and bool((array == number).all())


#: What may be part of a longer spelling: the key of a node, and what finds the rest around it.
PATTERNS = {"InstanceNormalization": _group_norm, "ai.onnx.ml.ArrayFeatureExtractor": _label, "Transpose": _turned}
