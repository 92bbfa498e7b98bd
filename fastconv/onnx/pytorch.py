"""PyTorch modules as models: exported to ONNX by PyTorch itself, in memory, and loaded from there.

PyTorch has two writers. The older one traces a call and needs nothing else; it names nodes after modules, and is tried first.
The newer one captures the module with ``torch.export`` and needs the onnxscript package; it takes some modules that the older
one does not, and is what newer versions of PyTorch will have alone.
"""

from __future__ import annotations

import inspect
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from fastconv.model import Model
from fastconv.onnx.errors import OnnxExportError, OnnxImportError, require_onnx
from fastconv.onnx.loading import load
from fastconv.onnx.pytorch_modules import rewritten

#: How far the outputs of the model may be from those of the module, by the largest of them.
TOLERANCE = 1e-3


def from_torch(
    module: Any,
    example_input: Any,
    *,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> Model:
    """Return a PyTorch module as a model: layers that train, save, freeze and run without PyTorch.

    Its inputs and outputs are the module's, channels first, with any batch size, or that of the example if the module compares
    samples with each other; inside, everything is channels last. The weights are copies. Dropout and batch normalization are
    layers again, whatever mode the module is in, so that the model can be trained further; dropout called as a function, or
    of another class than PyTorch's, is left out. Python code in the module, such as loops and branches, is fixed to what it
    does for the example. Instance normalization that evaluates with running statistics is then batch normalization.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed: weights, mode, gradients, the state of PyTorch's random numbers.
    example_input : tensor, array, or tuple of them
        What `module` is called with: its shapes but for the batch, and its dtypes, are those of the model's inputs. Arrays of
        floats are cast to the dtype of the module.
    input_names, output_names : list of str, optional
        What the inputs and outputs of the model are called: those of ``module.forward``, and ``"output"``, if left out.

    Returns
    -------
    Model
        Built; equal to the module on the example, up to rounding, which is checked.

    Raises
    ------
    OnnxExportError
        For a module that PyTorch cannot write as ONNX, and for one whose outputs depend on more than its inputs.
    OnnxImportError
        For unsupported operators: one error that lists them.
    TypeError
        For anything but a module, and for examples and outputs that are not tensors.
    ImportError
        Where PyTorch or the onnx package is not installed.

    See Also
    --------
    fastconv.onnx.load : from a file. fastconv.load_torch_weights : weights alone, into a model of one's own.

    Examples
    --------
    >>> import torch  # doctest: +SKIP
    >>> module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(288, 10))  # doctest: +SKIP
    >>> model = from_torch(module, torch.zeros(1, 3, 8, 8))  # doctest: +SKIP
    >>> model(np.zeros((5, 3, 8, 8), np.float32)).shape  # doctest: +SKIP
    (5, 10)
    """
    require_onnx()
    try:
        import torch
    except ImportError as error:
        raise ImportError("from_torch needs PyTorch, which is not installed: pip install 'fastconv[torch]'") from error
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, got {module!r:.200}")
    inputs = _tensors(torch, module, example_input)
    with _evaluating(torch, module):
        expected = _outputs(torch, module(*inputs))
        names = (
            _names(module, len(inputs), input_names),
            _numbered("output", len(expected), output_names, "output_names"),
        )
        model = _converted(torch, module, inputs, *names)
    _require_equal(model, inputs, expected)
    return model


def _tensors(torch: Any, module: Any, example: Any) -> tuple[Any, ...]:
    """Return the example as tensors where the module is."""
    weight = next((each for each in module.parameters() if each.is_floating_point()), torch.zeros(0))
    found = []
    for at, value in enumerate(example if isinstance(example, (tuple, list)) else (example,)):
        if isinstance(value, torch.Tensor):
            found.append(value.detach())
            continue
        try:
            tensor = torch.as_tensor(np.asarray(value))
        except (TypeError, ValueError) as error:
            raise TypeError(f"example_input[{at}] must be a tensor or an array, got {type(value).__name__}") from error
        found.append(tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else None))
    if not found:
        raise ValueError("example_input has no inputs: give what the module is called with")
    return tuple(found)


@contextmanager
def _evaluating(torch: Any, module: Any) -> Iterator[None]:
    """Let a module evaluate, and leave it and PyTorch's random numbers as they were."""
    modes = [(inner, inner.training) for inner in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for inner, mode in modes:
            inner.training = mode


def _outputs(torch: Any, made: Any) -> list[np.ndarray]:
    listed = list(made) if isinstance(made, (tuple, list)) else [made]
    for value in listed:
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"the module must return a tensor, or a tuple of tensors, got {type(value).__name__}"
                f"{' among them' if value is not made else ''}: wrap it in a module that does"
            )
    return [value.cpu().numpy() for value in listed]


def _names(module: Any, count: int, given: Sequence[str] | None) -> list[str]:
    """Return the names of the inputs: those that ``forward`` has for them, where they are names of nothing else."""
    if given is not None:
        return _numbered("", count, given, "input_names")
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    named = [name for name, each in inspect.signature(module.forward).parameters.items() if each.kind in kinds]
    taken = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    if len(named) < count or taken.intersection(named):
        return _numbered("input", count, None, "input_names")
    return named[:count]


def _numbered(word: str, count: int, given: Sequence[str] | None, what: str) -> list[str]:
    if given is None:
        return [word] if count == 1 else [f"{word}_{at}" for at in range(1, count + 1)]
    if isinstance(given, str) or len(given) != count or len(set(given)) < count:
        raise ValueError(f"{what} must be {count} different names, got {given!r}")
    return list(given)


def _converted(torch: Any, module: Any, inputs: tuple[Any, ...], names: list[str], outputs: list[str]) -> Model:
    """Return the model that the first of PyTorch's writers makes which succeeds."""
    for inner in module.modules():
        inner.training = type(inner) is torch.nn.Dropout
    failures: list[Exception] = []
    for write in (_traced, _captured):
        try:
            with _own_code_warns(torch), rewritten(torch, module) if write is _traced else nullcontext():
                proto = write(torch, module, inputs, names, outputs)
            return _loaded(_dropping_in_training_alone(proto), dict(zip(names, inputs, strict=True)))
        except Exception as error:  # what a writer raises that meets a module which it cannot write is anything
            failures.append(error)
    if isinstance(failures[0], OnnxImportError):
        raise failures[0]
    said = "; ".join(
        f"{way}: {str(error).strip().partition(chr(10))[0]}"
        for way, error in zip(("by tracing it", "with torch.export"), failures, strict=True)
    )
    raise OnnxExportError(f"PyTorch cannot write the {type(module).__name__} as ONNX: {said}") from failures[0]


def _loaded(proto: Any, inputs: dict[str, Any]) -> Model:
    """Return the model in a file: of any batch, or of that of the example where the samples of a batch meet."""
    try:
        return load(proto)
    except OnnxImportError as error:
        if error.unsupported:
            raise
        try:
            return load(proto, input_shapes={name: tuple(x.shape) for name, x in inputs.items()})
        except OnnxImportError:
            raise error from None


@contextmanager
def _own_code_warns(torch: Any) -> Iterator[None]:
    """Drop PyTorch's warnings about itself, and pass on that a module's own code is written as what it does for the example."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    home = os.path.dirname(torch.__file__)
    for said in caught:
        if issubclass(said.category, torch.jit.TracerWarning) and not said.filename.startswith(home):
            warnings.warn_explicit(said.message, said.category, said.filename, said.lineno)


def _traced(torch: Any, module: Any, inputs: tuple[Any, ...], names: list[str], outputs: list[str]) -> Any:
    """Return what the older writer makes of a module."""
    content = io.BytesIO()
    torch.onnx.export(
        module,
        inputs,
        content,
        input_names=names,
        output_names=outputs,
        dynamic_axes={name: {0: "N"} for name, x in zip(names, inputs, strict=True) if x.ndim},
        training=torch.onnx.TrainingMode.PRESERVE,  # else it folds batch normalization into convolutions
        do_constant_folding=False,
        **({"dynamo": False} if _has_two_writers(torch) else {}),
    )
    return require_onnx().load_from_string(content.getvalue())


def _captured(torch: Any, module: Any, inputs: tuple[Any, ...], names: list[str], outputs: list[str]) -> Any:
    """Return what the newer writer makes of a module."""
    if not _has_two_writers(torch):
        raise RuntimeError("it needs PyTorch 2.5 or newer")
    try:
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError("it needs the onnxscript package: pip install onnxscript") from error
    batch = torch.export.Dim.AUTO
    program = torch.onnx.export(
        module,
        inputs,
        input_names=names,
        output_names=outputs,
        dynamic_shapes=tuple({0: batch} if x.ndim else None for x in inputs),
        dynamo=True,
        optimize=False,  # else it folds batch normalization into convolutions
        verbose=False,
    )
    return program.model_proto


def _has_two_writers(torch: Any) -> bool:
    return "dynamo" in inspect.signature(torch.onnx.export).parameters


def _dropping_in_training_alone(proto: Any) -> Any:
    """Return a file whose dropouts, written for a module in training, are those of a model in either mode."""
    for node in proto.graph.node:
        if node.op_type == "Dropout":
            del node.input[2:]  # whether it is training
    return proto


def _require_equal(model: Model, inputs: tuple[Any, ...], expected: Sequence[np.ndarray]) -> None:
    made = model(*(x.cpu().numpy() for x in inputs))
    for y, wanted in zip(made if isinstance(made, tuple) else (made,), expected, strict=True):
        bound = TOLERANCE * max(1.0, float(np.abs(wanted).max(initial=0)))
        if y.shape != wanted.shape or not np.allclose(y, wanted, rtol=0, atol=bound, equal_nan=True):
            raise OnnxExportError(
                "the module does not return what its graph says for the example: do its outputs depend on random numbers, "
                "or on anything but its inputs?"
            )
