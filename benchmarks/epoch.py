"""One epoch of the default network on Fashion-MNIST, in fastconv and in PyTorch: ``python -m benchmarks.epoch --data DIR``.

DIR holds the four IDX files of the full data set (Debian: package ``dataset-fashion-mnist``). The same network, batch size,
optimizer and schedule run in both, each in a process of its own and in turn, since the idle threads of one library would
disturb the other. PyTorch is used as its users would: tensors in memory, batches by index, in the faster of its two memory
formats. An epoch is timed with its data pipeline, and without the test after it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

BATCH_SIZE = 64
LEARNING_RATE = 4e-3
ENGINES = ("fastconv", "torch contiguous", "torch channels_last")


def main() -> None:
    """Run the engines in turn and print times, accuracies and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with the IDX files")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1, help="how often each engine has its turn")
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        print(json.dumps(train(options.engine, options.data, options.threads, options.epochs)))
        return
    seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for number in range(options.rounds):
        for engine in ENGINES:
            result = run_alone(engine, options)
            seconds[engine] += result["seconds"]
            times = ", ".join(f"{value:.2f}" for value in result["seconds"])
            print(
                f"round {number + 1}  {engine:<20} {times} s per epoch; test accuracy {result['accuracy']:.2%}",
                flush=True,
            )
    medians = {engine: statistics.median(values) for engine, values in seconds.items()}
    print(f"\n{options.threads} threads, batches of {BATCH_SIZE}, medians of {len(seconds['fastconv'])} epochs")
    for engine, median in medians.items():
        print(f"  {engine:<20} {median:8.2f} s per epoch")
    best = min(medians[engine] for engine in ENGINES[1:])
    print(f"fastconv is {best / medians['fastconv']:.2f} times as fast as PyTorch's better format")


def run_alone(engine: str, options: argparse.Namespace) -> dict:
    """Run one engine in a process of its own and return what it measured."""
    command = [sys.executable, "-m", "benchmarks.epoch", "--engine", engine, "--data", options.data]
    command += ["--threads", str(options.threads), "--epochs", str(options.epochs)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "FASTCONV_NUM_THREADS": str(options.threads)}
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def train(engine: str, folder: str, threads: int, epochs: int) -> dict:
    """Train and return ``{"seconds": [one per epoch], "accuracy": after the last}``."""
    from fastconv.data import load_idx_folder

    train_part, test_part, _ = load_idx_folder(folder)
    (x, y), (x_test, y_test) = [(images.astype(np.float32) / 255, labels) for images, labels in (train_part, test_part)]
    if engine == "fastconv":
        return train_fastconv(x, y, x_test, y_test, threads, epochs)
    return train_torch(x, y, x_test, y_test, threads, epochs, engine.split()[1])


def train_fastconv(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, threads: int, epochs: int
) -> dict:
    """Train the default network with `fit`, whose history has the seconds of each epoch."""
    import fastconv
    from fastconv import networks, training

    fastconv.set_num_threads(threads)
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
    return {"seconds": history["seconds"], "accuracy": model.evaluate(x_test, y_test)["accuracy"]}


def train_torch(
    x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, threads: int, epochs: int, memory_format: str
) -> dict:
    """Train PyTorch's version; the arrays are channels last, which PyTorch's layout can describe without a copy."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layout = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format

    def images(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).permute(0, 3, 1, 2).contiguous(memory_format=layout)

    inputs, labels, test_inputs, test_labels = images(x), torch.from_numpy(y), images(x_test), torch.from_numpy(y_test)
    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(7 * 7 * 64, 128), nn.ReLU(), nn.Linear(128, 10)),
    ).to(memory_format=layout)
    for module in model:
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
    return {"seconds": seconds, "accuracy": float((predicted == test_labels).double().mean())}


if __name__ == "__main__":
    main()
