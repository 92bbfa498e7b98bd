"""The calls to time in fastconv, and our yardsticks of the machine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.case import Case, Engine, draw

Call = Callable[[], Any]

#: Rounds of the peak kernel in a call, about a millisecond.
PEAK_ROUNDS = 100_000

#: Elements of an array whose copy goes through memory: several times the last level of cache.
COPIED = 2**25

#: Independent registers of the peak kernel.
CHAINS = 12


def prepare(engine: Engine, case: Case, way: str) -> Call:
    """Return the call that makes this pass on arrays drawn from one seed."""
    import fastconv

    fastconv.set_num_threads(engine.threads)
    dtype = np.dtype(engine.dtype)
    if case.op == "multiply_add":
        return _peak(engine)
    if case.op == "copy":
        return _copy(engine.threads)
    if case.op == "network":
        return _network(case, way, dtype)
    x, dy = draw(case.input_shape, dtype), draw(case.output_shape, dtype, seed=1)
    if case.op in ("conv", "conv_transpose", "linear"):
        return _weighted(case, way, x, dy, dtype)
    return _plain(case, way, x, dy, dtype)


def _weighted(case: Case, way: str, x: np.ndarray, dy: np.ndarray, dtype: np.dtype) -> Call:
    from fastconv import functional as F

    arguments: dict[str, Any] = {}
    shape: tuple[int, ...] = (case.channels, case.outputs)
    if case.op != "linear":
        arguments = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation, "groups": case.groups}
        last = (case.outputs // case.groups, case.channels)
        shape = (*case.kernel, *(last if case.op == "conv_transpose" else (case.channels // case.groups, case.outputs)))
    weight = draw(shape, dtype, seed=2)
    if way == "forward":
        function = getattr(F, case.op)
        return lambda: function(x, weight, **arguments)
    backward = getattr(F, f"{case.op}_backward")
    wrt = {"backward_input": ("x",), "backward_weight": ("weight",), "backward": ("x", "weight")}[way]
    return lambda: backward(dy, x, weight, wrt=wrt, **arguments)


def _plain(case: Case, way: str, x: np.ndarray, dy: np.ndarray, dtype: np.dtype) -> Call:
    from fastconv import functional as F

    forward = way == "forward"
    if case.op == "batch_norm":
        scale, bias = draw((case.channels,), dtype, seed=2), draw((case.channels,), dtype, seed=3)
        _, mean, var = F.batch_norm(x, scale, bias)
        if forward:
            return lambda: F.batch_norm(x, scale, bias)
        return lambda: F.batch_norm_backward(dy, x, scale, mean, var)
    if case.op == "activation":
        function = getattr(F, case.name if forward else f"{case.name}_backward")
        if case.name in ("relu", "sigmoid", "tanh") and not forward:  # the layers keep the output, as PyTorch does
            y = getattr(F, case.name)(x)
            return lambda: function(dy, y=y)
        return (lambda: function(x)) if forward else (lambda: function(dy, x))
    if case.op == "global_avg_pool":
        if forward:
            return lambda: F.adaptive_avg_pool(x, 1)
        return lambda: F.adaptive_avg_pool_backward(dy, x.shape, 1)
    window: dict[str, Any] = {"kernel_size": case.kernel, "stride": case.stride, "padding": case.padding}
    if case.op == "max_pool":
        _, indices = F.max_pool_with_indices(x, **window)  # which the layers keep, as PyTorch does
        return (lambda: F.max_pool(x, **window)) if forward else (lambda: F.max_pool_with_indices_backward(dy, indices))
    return (lambda: F.avg_pool(x, **window)) if forward else (lambda: F.avg_pool_backward(dy, x.shape, **window))


def _network(case: Case, way: str, dtype: np.dtype) -> Call:
    import fastconv
    from fastconv import networks, training

    shape = case.input_shape[1:]
    model = networks.create(case.name, shape, case.outputs)
    model.build(shape, rng=np.random.default_rng(0))
    model.astype(dtype)
    x = draw(case.input_shape, dtype)
    labels = np.arange(case.batch) % case.outputs
    if way == "inference":
        return lambda: model(x)
    optimizer = fastconv.Adam(1e-3)

    def step() -> None:
        _, grads = training.value_and_grad(model, "cross_entropy", x, labels)
        optimizer.step(model.params, grads)

    return step


def peak_operations(engine: Engine) -> int:
    """Return the operations of a call of the peak kernel."""
    return 2 * PEAK_ROUNDS * _registers(engine).size


def _kernels(engine: Engine) -> Any:
    from fastconv import _kernels

    return _kernels.load(engine.isa or _kernels.isa)[np.dtype(engine.dtype)]


def _registers(engine: Engine) -> np.ndarray:
    dtype = np.dtype(engine.dtype)
    lanes = _kernels(engine).describe()["vector_bytes"] // dtype.itemsize
    return np.zeros((engine.threads, CHAINS * lanes), dtype)


def _peak(engine: Engine) -> Call:
    kernels, registers = _kernels(engine), _registers(engine)
    return lambda: kernels.multiply_add_peak(registers, PEAK_ROUNDS, engine.threads)


def _copy(threads: int) -> Call:
    """Return a copy of `COPIED` float32 by as many Python threads, a part each: NumPy copies without the lock."""
    source, target = np.ones(COPIED, np.float32), np.zeros(COPIED, np.float32)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))

    def copy() -> None:
        others = [threading.Thread(target=np.copyto, args=(to, part)) for part, to in parts[1:]]
        for thread in others:
            thread.start()
        np.copyto(parts[0][1], parts[0][0])
        for thread in others:
            thread.join()

    return copy
