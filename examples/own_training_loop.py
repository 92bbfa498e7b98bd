"""A custom training loop: batches, `value_and_grad`, `optimizer.step`. ``python examples/own_training_loop.py``."""

from __future__ import annotations

import argparse

import numpy as np

import fastconv
from fastconv import data, networks


def main() -> None:
    """Train LeNet-5 step by step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs

    (x_train, y_train), (x_test, y_test), classes = data.load_fashion_mnist_subset()
    model = networks.create("lenet", x_train.shape[1:], len(classes)).build(rng=np.random.default_rng(0))
    optimizer = fastconv.SGD(0.05, momentum=0.9)
    batches = data.Batches(x_train, y_train, batch_size=32, seed=0, augment=[data.Shift(1)])

    for epoch in range(epochs):
        losses = []
        for x, y in batches:
            loss, gradients = model.value_and_grad("cross_entropy", x, y)
            optimizer.step(model.params, gradients)
            losses.append(loss)
        results = model.evaluate(x_test, y_test)
        print(f"epoch {epoch + 1}: training loss {np.mean(losses):.3f}, test accuracy {results['accuracy']:.1%}")


if __name__ == "__main__":
    main()
