"""``python -m benchmarks epoch --data DIR``: one epoch of the default network on Fashion-MNIST, in fastconv and in PyTorch.

DIR holds the four IDX files of the full data set (Debian: package ``dataset-fashion-mnist``). The same network, batch size,
optimizer and schedule run in both, in turn, each time in a fresh process. PyTorch is used as its users would: tensors in
memory, batches by index, in the faster of its two memory formats. An epoch is timed with its data pipeline, and without the
test after it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import compare, machine, report
from benchmarks.case import Engine
from benchmarks.turns import ISA_VARIABLES, environment, variables

BATCH_SIZE = 64
LEARNING_RATE = 4e-3


class Trained(NamedTuple):
    """Seconds of each epoch, and the test accuracy after the last."""

    seconds: list[float]
    accuracy: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--data", required=True, help="folder with the IDX files")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="each in turn (1 2)")
    parser.add_argument("--epochs", type=int, default=1, metavar="N", help="of a turn (1)")
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="turns of each library (2)")
    parser.add_argument("--isa", choices=list(ISA_VARIABLES), help="hold both sides to an instruction set")
    parser.add_argument(
        "--output", type=Path, metavar="NAME", help="write NAME.json, which `report` takes with those of `cases`"
    )
    parser.set_defaults(dtype="float32", against="torch", cold=False)


def run(options: argparse.Namespace) -> None:
    """Run the engines in turn and print times, accuracies and the ratio."""
    results = []
    for threads in options.threads:
        engines = compare.engines(options, threads)
        seconds: dict[Engine, list[float]] = {engine: [] for engine in engines}
        for number in range(options.rounds):
            for engine in engines:
                trained = alone(engine, options.data, options.epochs)
                seconds[engine] += trained.seconds
                times = ", ".join(f"{value:.2f}" for value in trained.seconds)
                print(f"round {number + 1}  {engine}: {times} s per epoch; accuracy {trained.accuracy:.2%}", flush=True)
        medians = {engine: statistics.median(values) for engine, values in seconds.items()}
        others = {compare.label(engine): medians[engine] for engine in engines[1:]}
        case = f"cnn-small, Fashion-MNIST, batch {BATCH_SIZE}"
        isa = machine.instruction_set(options.isa)
        results.append(report.Result("epoch", case, "epoch", threads, "", medians[engines[0]], others, isa=isa))
    report.show(results)
    if options.output:
        facts = compare.facts_of(options)
        report.save(options.output.with_suffix(".json"), results, facts)


def alone(engine: Engine, folder: str, epochs: int) -> Trained:
    """Return `train` of a fresh process."""
    with environment(variables(engine)), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(train, engine, folder, epochs).result()


def train(engine: Engine, folder: str, epochs: int) -> Trained:
    """Train in one library."""
    from fastconv.data import load_idx_folder

    train_part, test_part, _ = load_idx_folder(folder)
    parts = [(images.astype(np.float32) / 255, labels) for images, labels in (train_part, test_part)]
    return (train_fastconv if engine.library == "fastconv" else train_torch)(engine, *parts[0], *parts[1], epochs)


def train_fastconv(
    engine: Engine, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, epochs: int
) -> Trained:
    """Train the default network with `fit`, whose history has the seconds of each epoch."""
    import fastconv
    from fastconv import networks, training

    fastconv.set_num_threads(engine.threads)
    model = networks.create(networks.DEFAULT, x.shape[1:], 10)
    history = model.fit(
        x,
        y,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        optimizer=fastconv.Adam(training.OneCycle(LEARNING_RATE)),
        seed=0,
        verbose=False,
    )
    return Trained(history["seconds"], model.evaluate(x_test, y_test)["accuracy"])


def train_torch(
    engine: Engine, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, epochs: int
) -> Trained:
    """Train PyTorch's version; the arrays are channels last, which PyTorch's layout can describe without a copy."""
    import torch
    from torch import nn

    from benchmarks.tensors import memory_format
    from benchmarks.theirs_networks import cnn_small

    torch.set_num_threads(engine.threads)
    torch.manual_seed(0)
    layout = memory_format(engine, 4)

    def images(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous(memory_format=layout)

    inputs, labels, test_inputs, test_labels = images(x), torch.from_numpy(y), images(x_test), torch.from_numpy(y_test)
    model = cnn_small(1, x.shape[1], 10).to(memory_format=layout)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    steps = epochs * -(-len(inputs) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps + 1)
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        model.train()
        for batch in torch.randperm(len(inputs)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs[batch].contiguous(memory_format=layout)), labels[batch])
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds.append(time.perf_counter() - start)
    model.eval()
    with torch.no_grad():
        predicted = torch.cat([model(part).argmax(1) for part in test_inputs.split(256)])
    return Trained(seconds, float((predicted == test_labels).double().mean()))
