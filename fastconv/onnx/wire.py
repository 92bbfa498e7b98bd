"""Where the data of large tensors lies in a file: it is read in place, not copied out of messages.

An ONNX file is a message of protocol buffers: a row of fields, each a number with a wire type, and before bytes and messages
how long they are (https://protobuf.dev/programming-guides/encoding).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

#: Bytes from which on a tensor is large.
LARGE = 2**14

#: More fields than that in one message are left to the library, which is faster.
MOST_FIELDS = 2**18

_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}  # bytes of a value


class Slim(NamedTuple):
    """A file without the numbers of its large initializers, and those numbers by the place of the initializer."""

    content: bytes
    data: dict[int, memoryview]


class _Field(NamedTuple):
    """Where a field begins, and where its value begins and ends."""

    number: int
    kind: int
    start: int
    value: int
    end: int


class _UnusualError(ValueError):
    """What the library shall judge."""


def slim(onnx: Any, content: memoryview) -> Slim | None:
    """Return a file without what is large in it; None for one that is broken, unusual, or has nothing large."""
    if len(content) < LARGE:
        return None
    try:
        graphs = list(_fields(content, 0, len(content), onnx.ModelProto.GRAPH_FIELD_NUMBER))
        if len(graphs) != 1 or graphs[0].kind != _BYTES:
            return None
        (graph,) = graphs
        parts, data = _slim_graph(onnx, content, graph)
    except _UnusualError:
        return None
    if not data:
        return None
    parts = [_key(graph), _number(sum(map(len, parts))), *parts]
    return Slim(b"".join([content[: graph.start], *parts, content[graph.end :]]), data)


def _slim_graph(onnx: Any, content: memoryview, graph: _Field) -> tuple[list[Any], dict[int, memoryview]]:
    parts: list[Any] = []
    data: dict[int, memoryview] = {}
    initializer, raw_data = onnx.GraphProto.INITIALIZER_FIELD_NUMBER, onnx.TensorProto.RAW_DATA_FIELD_NUMBER
    copied = graph.value
    for place, field in enumerate(_fields(content, graph.value, graph.end, initializer)):
        if field.kind == _BYTES and field.end - field.value >= LARGE:
            raws = list(_fields(content, field.value, field.end, raw_data))
            if len(raws) == 1 and raws[0].kind == _BYTES:
                (raw,) = raws
                data[place] = content[raw.value : raw.end]
                rest = [content[field.value : raw.start], content[raw.end : field.end]]
                parts += [content[copied : field.start], _key(field), _number(sum(map(len, rest))), *rest]
                copied = field.end
    return [*parts, content[copied : graph.end]], data


def _fields(content: memoryview, at: int, end: int, wanted: int) -> Iterator[_Field]:
    """Yield the fields of a number in a message, which lies from `at` to `end`."""
    for _ in range(MOST_FIELDS):
        if at == end:
            return
        start, key = at, content[at]
        at += 1
        if key > 127:
            key, at = _varint(content, start, end)
        value, kind = at, key & 7
        if kind == _BYTES:
            size, value = _varint(content, at, end)
            at = value + size
        elif kind == _VARINT:
            _, at = _varint(content, at, end)
        elif kind in _FIXED:
            at += _FIXED[kind]
        else:
            raise _UnusualError
        if at > end:
            raise _UnusualError
        if key >> 3 == wanted:
            yield _Field(wanted, kind, start, value, at)
    if at < end:
        raise _UnusualError


def _varint(content: memoryview, at: int, end: int) -> tuple[int, int]:
    """Return a number, seven bits a byte and the lowest first, and where it ends."""
    if at + 1 < end:  # most are of one or two bytes
        first, second = content[at], content[at + 1]
        if first < 128:
            return first, at + 1
        if second < 128:
            return first & 127 | second << 7, at + 2
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise _UnusualError


def _number(value: int) -> bytes:
    """Return a number as `_varint` reads it."""
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def _key(field: _Field) -> bytes:
    return _number(field.number << 3 | field.kind)
