"""Arrays of a case as tensors of PyTorch, in the memory format of an engine."""

from __future__ import annotations

import torch

from benchmarks.case import Engine, draw


def memory_format(engine: Engine, axes: int) -> torch.memory_format:
    """Return the memory format of an engine for tensors with so many axes."""
    if engine.layout != "channels_last":
        return torch.contiguous_format
    return torch.channels_last_3d if axes == 5 else torch.channels_last


def images(shape: tuple[int, ...], engine: Engine, *, seed: int = 0) -> torch.Tensor:
    """Return a tensor (N, C, *spatial) in the engine's memory format, from a shape with the channels last."""
    order = (shape[0], shape[-1], *shape[1:-1])
    tensor = torch.from_numpy(draw(order, engine.dtype, seed=seed))
    return tensor.contiguous(memory_format=memory_format(engine, len(shape))) if len(shape) > 2 else tensor
