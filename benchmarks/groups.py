"""The groups of cases that have a target each, which layer is in which, and what a run selects."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from benchmarks.case import Case
from benchmarks.cases import BATCHES, NETWORKS

#: A single case may be slower than PyTorch by so much; float64 may cost 2.2 times float32, a smaller instruction set twice.
LOWEST = 0.95
LOWEST_FLOAT64 = 1 / 2.2
LOWEST_ISA = 0.5

GRADIENTS = ("backward_input", "backward_weight", "backward")
BOTH = ("forward", "backward")

#: What ``--passes`` may name: the gradients one by one or together; of a whole network its inference or a training step.
PASSES = ("forward", *GRADIENTS, "inference", "step")


def lowest(against: str) -> float:
    """Return the ratio that no single case should be below."""
    return {"torch": LOWEST, "float32": LOWEST_FLOAT64}.get(against, LOWEST_ISA)


class Task(NamedTuple):
    """What is timed: a case, and the pass through it."""

    case: Case
    way: str

    def __str__(self) -> str:
        return f"{self.case}: {self.way}"


class Group(NamedTuple):
    """Cases whose geometric mean has a target: the speed against PyTorch's best."""

    name: str
    title: str
    target: float | None
    limit: str  # what bounds the speed first: compute, memory or the cost of calls
    ways: tuple[str, ...]
    has: Callable[[Case, bool], bool]  # of a case, and whether its network is for small images
    one_thread: float | None = None  # the target on one thread, where it is another
    avx2: float = 1.0

    def target_for(self, threads: int, isa: str | None = None, against: str = "torch") -> float | None:
        """Return the target on so many threads, both sides with the instruction set `isa`, or against fastconv itself."""
        if against != "torch":
            return lowest(against)
        if self.target is None or isa == "baseline":
            return None
        if isa == "avx2":
            return self.avx2
        return self.one_thread if threads == 1 and self.one_thread else self.target


def _is_conv(case: Case) -> bool:
    return case.op == "conv"


def _plain(case: Case, small: bool) -> bool:
    """Whether it is a convolution of large images, two axes, one group, no dilation, more than three channels."""
    return (
        _is_conv(case) and not small and len(case.size) == 2 and case.groups == case.dilation == 1 and case.channels > 3
    )


def _three(case: Case, small: bool) -> bool:
    wide = case.channels >= 32 and case.outputs >= 32
    return _plain(case, small) and case.kernel == (3, 3) and case.stride == (1, 1) and wide


def _one(case: Case, small: bool) -> bool:
    return _plain(case, small) and case.kernel == (1, 1)


def _other_kernel(case: Case, small: bool) -> bool:
    return _plain(case, small) and not _three(case, small) and not _one(case, small)


def _first(case: Case, small: bool) -> bool:
    return _is_conv(case) and not small and len(case.size) == 2 and case.channels in (1, 3)


def _depthwise(case: Case, small: bool) -> bool:
    return _is_conv(case) and case.groups == case.channels > 1


def _pooling(case: Case, small: bool) -> bool:
    return case.op in ("max_pool", "avg_pool", "global_avg_pool")


def _pointwise(case: Case, small: bool) -> bool:
    return case.op in ("batch_norm", "activation")


def _special(case: Case, small: bool) -> bool:
    grouped = _is_conv(case) and (1 < case.groups < case.channels or case.dilation > 1)
    return case.op == "conv_transpose" or grouped


def _other_rank(case: Case, small: bool) -> bool:
    return _is_conv(case) and len(case.size) != 2


def _small(case: Case, small: bool) -> bool:
    """Whether it is of a network for small images; its pooling and normalization stand with those of the others."""
    return small and ((_is_conv(case) and not _depthwise(case, small)) or case.op in ("linear", "network"))


def _step(case: Case, small: bool) -> bool:
    return case.op == "network" and case.batch == 64 and case.name in ("lenet", "vgg-small", "resnet20")


GROUPS = (
    Group("3x3", "3x3 stride 1, C and O at least 32, forward", 2.5, "compute", ("forward",), _three, avx2=1.5),
    Group("3x3-input", "the same, backward to the input", 2.5, "compute", ("backward_input",), _three, avx2=1.5),
    Group("3x3-weight", "the same, backward to the weight", 1.5, "compute", ("backward_weight",), _three, avx2=1.5),
    Group("larger", "3x3 stride 2, 5x5, 7x7, forward and backward", 1.2, "compute", BOTH, _other_kernel),
    Group("1x1", "1x1, forward and backward", 1.1, "compute", BOTH, _one, one_thread=1.5),
    Group(
        "first",
        "first layers (1 or 3 channels), forward and backward",
        2.0,
        "compute",
        ("forward", "backward_weight"),
        _first,
    ),
    Group("depthwise", "depthwise 3x3 and 5x5, stride 1 and 2, forward and backward", 1.5, "memory", BOTH, _depthwise),
    Group("pooling", "pooling (max, average, global), forward and backward", 1.5, "memory", BOTH, _pooling),
    Group("norm", "batch normalization, activations, forward and backward", 1.2, "memory", BOTH, _pointwise),
    Group("special", "transposed, grouped, dilated", 1.2, "compute", BOTH, _special),
    Group(
        "small",
        "small images: LeNet, CIFAR and Fashion-MNIST networks at batch 1 to 64",
        2.0,
        "calls",
        ("forward", "backward", "inference", "step"),
        _small,
    ),
    Group("step", "one whole training step, batch 64", 2.0, "compute", ("step",), _step),
    Group(
        "epoch",
        "one epoch of the default network on the full Fashion-MNIST, data pipeline included",
        2.0,
        "compute",
        (),
        lambda case, small: False,  # not a case: the command `epoch` measures it
    ),
    Group("rank", "1-D layers of an audio network, 3-D layers of a video network", None, "compute", BOTH, _other_rank),
)

BY_NAME = {group.name: group for group in GROUPS}


def ways_of(case: Case) -> tuple[str, ...]:
    """Return the passes that a case has."""
    if case.op == "network":
        return ("inference", "step")
    return ("forward", *GRADIENTS) if case.op in ("conv", "conv_transpose", "linear") else BOTH


def members(group: Group, networks: Iterable[str] = (), batches: Iterable[int] = BATCHES) -> list[Case]:
    """Return the distinct cases of a group, fitted, the smallest batch first; all networks unless some are named."""
    wanted = set(networks)
    found: dict[Case, list[str]] = {}
    for batch in batches:
        for network in NETWORKS:
            if wanted and network.name not in wanted:
                continue
            for layer in network.layers:
                case = replace(layer, batch=batch)
                if group.has(case, network.small):
                    names = found.setdefault(case.fitted(), [])
                    if network.name not in names:
                        names.append(network.name)
    return [replace(case, networks=", ".join(names)) for case, names in found.items()]


def select(
    groups: Sequence[str] = (),
    *,
    networks: Sequence[str] = (),
    batches: Sequence[int] = BATCHES,
    ways: Sequence[str] = (),
    most: int | None = None,
    operations: float = math.inf,
) -> dict[str, list[Task]]:
    """Return the tasks of each group, of those that have any.

    Without `ways` a group has its own passes. `most` keeps so many cases of a group, spread over its networks and batches, and
    only those with at most so many `operations` forward.
    """
    selected: dict[str, list[Task]] = {}
    for group in GROUPS:
        if groups and group.name not in groups:
            continue
        cases = [case for case in members(group, networks, batches) if case.operations("forward") <= operations]
        if most and len(cases) > most:
            cases = [cases[(2 * i + 1) * len(cases) // (2 * most)] for i in range(most)]
        separate = group.name in ("3x3", "3x3-input", "3x3-weight", "step")
        tasks = []
        for case in cases:
            if ways and not separate:
                chosen = [way for way in ways_of(case) if way in ways]
            else:
                chosen = [way for way in group.ways if way in ways_of(case) and (not ways or way in ways)]
            tasks += [
                Task(case, way) for way in chosen if group.name != "small" or not (way == "step" and case.batch == 64)
            ]
        if tasks:
            selected[group.name] = tasks
    return selected
