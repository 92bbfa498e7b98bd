"""The table of cases is sound: what the papers say, in the right groups, small enough to be measured."""

from __future__ import annotations

import itertools
import math

import pytest

from benchmarks import groups
from benchmarks.case import MOST_ELEMENTS, MOST_OPERATIONS, Case
from benchmarks.cases import BATCHES, NETWORKS, conv, depthwise, linear, norm, pool, up

ASKED_FOR = ("VGG-16", "ResNet-18", "ResNet-50", "MobileNetV2", "EfficientNet-B0", "DenseNet-121", "U-Net", "LeNet")

#: Convolutions of different shape, counted by hand in the tables of the papers (the shortcuts and transitions included).
DISTINCT = {"VGG-16": 9, "ResNet-18": 11, "DenseNet-121": 1 + 58 + 4 + 3, "LeNet": 2}


def layers_of(name: str) -> list[Case]:
    return next(network.layers for network in NETWORKS if network.name == name)


def test_the_networks_are_there_with_their_sources():
    names = [network.name for network in NETWORKS]
    assert set(ASKED_FOR) <= set(names) and len(set(names)) == len(names)
    assert all(
        any(str(year) in network.source for year in range(1998, 2030)) for network in NETWORKS if not network.small
    )


@pytest.mark.parametrize(("name", "count"), DISTINCT.items())
def test_every_distinct_convolution_of_a_network_is_there(name, count):
    assert len({layer for layer in layers_of(name) if layer.op == "conv"}) == count


def test_the_layers_of_a_chain_fit_together():
    for name in ("VGG-16", "U-Net"):
        convolutions = [layer for layer in layers_of(name) if layer.op == "conv"]
        for before, after in itertools.pairwise(convolutions):
            assert after.channels in (before.outputs, 2 * before.outputs)


def test_a_block_is_unfolded_as_the_paper_says():
    depthwise_layers = [layer for layer in layers_of("MobileNetV2") if layer.groups > 1]
    assert [layer.channels for layer in depthwise_layers][-3:] == [960, 960, 960]
    assert depthwise_layers[-1].size == (7, 7)
    assert max(layer.channels for layer in layers_of("DenseNet-121") if layer.op == "conv") == 1024


@pytest.mark.parametrize(
    ("layer", "small", "names"),
    [
        (conv(56, 64, 64), False, ["3x3", "3x3-input", "3x3-weight"]),
        (conv(56, 16, 64), False, ["larger"]),
        (conv(56, 64, 64, 3, 2), False, ["larger"]),
        (conv(56, 64, 64, 5), False, ["larger"]),
        (conv(56, 64, 64, 1), False, ["1x1"]),
        (conv(56, 3, 64), False, ["first"]),
        (conv(56, 1, 64), True, ["small"]),
        (conv(56, 64, 64), True, ["small"]),
        (depthwise(56, 64, 3), True, ["depthwise"]),
        (conv(56, 64, 64, dilation=2), False, ["special"]),
        (conv(56, 64, 64, groups=4), False, ["special"]),
        (up(28, 64, 64, 2), False, ["special"]),
        (conv((100,), 1, 64), False, ["rank"]),
        (pool(28, 64), True, ["pooling"]),
        (norm(28, 64), False, ["norm"]),
        (linear(64, 10), True, ["small"]),
    ],
)
def test_a_layer_is_in_its_group(layer, small, names):
    assert [group.name for group in groups.GROUPS if group.has(layer, small)] == names


def test_every_layer_is_in_a_group():
    for network in NETWORKS:
        for layer in network.layers:
            assert any(group.has(layer, network.small) for group in groups.GROUPS), (network.name, layer)


@pytest.mark.parametrize(
    "group", [group for group in groups.GROUPS if group.name != "epoch"], ids=lambda group: group.name
)
def test_groups_have_distinct_cases_that_can_be_measured(group):
    cases = groups.members(group)
    assert cases
    assert len(set(map(str, cases))) == len(cases)  # results are told apart by these words
    for case in cases:
        assert case.networks
        assert min(case.output_shape) >= 1
        assert case.operations("forward") <= MOST_OPERATIONS
        assert math.prod(case.input_shape) + math.prod(case.output_shape) <= MOST_ELEMENTS


def test_targets_are_those_of_the_number_of_threads_and_the_instruction_set():
    one = groups.BY_NAME["1x1"]
    assert (one.target_for(1), one.target_for(2), one.target_for(1, "avx2")) == (1.5, 1.1, 1.0)
    three = groups.BY_NAME["3x3"]
    assert (three.target_for(1), three.target_for(2, "avx2"), three.target_for(2, "baseline")) == (2.5, 1.5, None)
    assert three.target_for(1, None, "float32") == 1 / 2.2
    assert three.target_for(1, "baseline", "avx2") == 0.5


def test_operations_and_bytes_are_those_of_the_definition():
    layer = conv(8, 3, 5, 3, 2)
    assert layer.output_shape == (1, 4, 4, 5)
    assert layer.operations("forward") == 2 * 4 * 4 * 5 * 3 * 3 * 3
    assert layer.operations("backward") == 2 * layer.operations("backward_weight") == 2 * layer.operations("forward")
    assert depthwise(8, 6, 3).operations("forward") == 2 * 8 * 8 * 6 * 9
    assert up(4, 6, 5, 2).operations("forward") == 2 * 4 * 4 * 2 * 2 * 6 * 5
    assert up(4, 6, 5, 2).output_shape == (1, 8, 8, 5)
    assert linear(3, 5).operations("forward") == 30
    assert norm(4, 2).bytes("forward") == 4 * 2 * 32 and norm(4, 2).bytes("backward") == 4 * 3 * 32
    assert pool(4, 2).bytes("forward", 8) == 8 * (32 + 8)
    assert layer.bytes("forward") == norm(4, 2).operations("forward") == 0


def test_a_selection_can_be_narrowed():
    everything = groups.select()
    assert list(everything) == [group.name for group in groups.GROUPS if group.name != "epoch"]
    assert {task.case.batch for tasks in everything.values() for task in tasks} >= set(BATCHES)
    few = groups.select(most=2, operations=1e9)
    for name, tasks in few.items():
        assert len({task.case for task in tasks}) <= 2, name
        assert all(task.case.operations("forward") <= 1e9 for task in tasks)
    (only,) = groups.select(["1x1"], networks=["ResNet-18"], batches=[1], ways=["backward_weight"]).values()
    assert [task.way for task in only] == ["backward_weight"] * 3
    assert list(groups.select(["3x3", "3x3-input"], ways=["backward_input"])) == ["3x3-input"]
    assert groups.select(["small"], networks=["VGG-16"]) == {}


def test_a_training_step_is_in_one_group():
    steps = [(name, task) for name, tasks in groups.select().items() for task in tasks if task.way == "step"]
    assert len({task for _, task in steps}) == len(steps)
    assert {task.case.name for name, task in steps if name == "step"} == {"lenet", "vgg-small", "resnet20"}
