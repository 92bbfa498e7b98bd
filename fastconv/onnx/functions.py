"""Expanding functions: those in a file, and operators that ONNX defines by others."""

from __future__ import annotations

from typing import Any

from fastconv.onnx.errors import OnnxImportError

#: Operators whose nodes are replaced by those that ONNX says they are made of.
WRITTEN_OUT = frozenset(
    {
        "AffineGrid",
        "Attention",
        "CausalConvWithState",
        "CenterCropPad",
        "LinearAttention",
        "NegativeLogLikelihoodLoss",
        "RotaryEmbedding",
        "SoftmaxCrossEntropyLoss",
        "SwiGLU",
    }
)


def to_write_out(model: Any) -> bool:
    """Return whether the model has anything that `written_out` replaces."""
    return len(model.functions) > 0 or any(map(_is_written_out, model.graph.node))


def written_out(onnx: Any, model: Any) -> Any:
    """Return a model without functions, and without the operators in `WRITTEN_OUT`."""
    import onnx.inliner

    try:
        if len(model.functions):
            model = onnx.inliner.inline_local_functions(model)
        if not to_write_out(model):
            return model
        model = _typed(onnx, model)
        for node in model.graph.node:
            if _is_written_out(node):
                _spell_defaults(onnx, node, next(item.version for item in model.opset_import if not item.domain))
        return onnx.inliner.inline_selected_functions(model, [("", op) for op in WRITTEN_OUT], False, True)
    except Exception as error:
        raise OnnxImportError(f"the functions in the file cannot be written out: {error}") from error


def _typed(onnx: Any, model: Any) -> Any:
    """Return a copy that says which types all its tensors have: on them it depends what a node is made of."""
    model = onnx.shape_inference.infer_shapes(model)
    known = {value.name for value in (*model.graph.input, *model.graph.value_info)}
    for tensor in model.graph.initializer:
        if tensor.name not in known:
            info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            model.graph.value_info.append(info)
    model.graph.value_info.add(name="").type.tensor_type.elem_type = onnx.TensorProto.FLOAT  # what is left out
    return model


def _is_written_out(node: Any) -> bool:
    return node.op_type in WRITTEN_OUT and node.domain in ("", "ai.onnx")


def _spell_defaults(onnx: Any, node: Any, opset: int) -> None:
    """Write down the arguments that a node leaves out: the bodies of functions do not all say what they are."""
    given = {item.name for item in node.attribute}
    for name, known in onnx.defs.get_schema(node.op_type, opset, "").attributes.items():
        if name not in given and known.default_value.type:
            node.attribute.append(known.default_value)
