"""A custom layer, squeeze-and-excitation, in a network that is trained, saved and loaded.

The layer weights the channels of an image by what is in all of them: the means of the channels go through two small
linear maps, and the result, between 0 and 1, multiplies the channels. Source: J. Hu, L. Shen, G. Sun, "Squeeze-and-excitation
networks", CVPR 2018. ``python examples/custom_layer.py``.
"""

from __future__ import annotations

import argparse

import numpy as np

import fastconv
from fastconv import data
from fastconv import functional as F
from fastconv import layers as L


@L.register("example.SqueezeExcite")
class SqueezeExcite(L.Layer):
    """y = x * sigmoid(relu(mean(x) @ down) @ up), one factor per image and channel; x is ``(N, H, W, C)``."""

    def __init__(self, hidden: int = 8):
        self.hidden = hidden

    def build(self, shape, rng):
        channels = shape[-1]
        for name, size in (("down", (channels, self.hidden)), ("up", (self.hidden, channels))):
            self.params[name] = (rng.standard_normal(size) * np.sqrt(2 / size[0])).astype(np.float32)

    def output_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"x must have shape (N, H, W, C), got {len(shape) + 1} axes")
        return shape

    def forward(self, ctx, x):
        self.output_shape(x.shape[1:])
        down, up = self.params["down"], self.params["up"]
        pixels = x.shape[1] * x.shape[2]
        mean = x.mean(axis=(1, 2))  # (N, C)
        before = mean @ down  # (N, hidden)
        after = F.relu(before)
        factor = F.sigmoid(after @ up)[:, None, None, :]  # (N, 1, 1, C)

        def backward(dy):
            dfactor = (dy * x).sum(axis=(1, 2))  # (N, C)
            dlogit = dfactor * factor[:, 0, 0] * (1 - factor[:, 0, 0])
            dbefore = F.relu_backward(dlogit @ up.T, before)
            dmean = dbefore @ down.T
            dx = dy * factor + (dmean / pixels)[:, None, None, :]
            return dx, {"down": mean.T @ dbefore, "up": after.T @ dlogit}

        return x * factor, backward


def main() -> None:
    """Train a network with the layer, save it, load it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs

    (x_train, y_train), (x_test, y_test), classes = data.load_fashion_mnist_subset()
    model = fastconv.Sequential(
        [
            L.Conv2d(16, 3, stride=2),
            L.ReLU(),
            SqueezeExcite(),
            L.Conv2d(32, 3, stride=2),
            L.ReLU(),
            SqueezeExcite(),
            L.Flatten(),
            L.Linear(len(classes)),
        ]
    )
    model.fit(x_train, y_train, epochs=epochs, batch_size=32, validation_data=(x_test, y_test))
    print(model.summary())
    model.save("own_layer.safetensors")
    again = fastconv.load_model("own_layer.safetensors")  # knows the layer by its name, example.SqueezeExcite
    print(f"the same after loading: {np.array_equal(again.predict(x_test), model.predict(x_test))}")


if __name__ == "__main__":
    main()
