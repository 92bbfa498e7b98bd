"""Train on arrays: augmentation, a schedule, early stopping, a checkpoint; then load the model and use it.

``python examples/train_from_arrays.py`` uses the images inside the package; put ``(N, H, W, C)`` arrays of your own in their
place.
"""

from __future__ import annotations

import argparse

import numpy as np

import fastconv
from fastconv import data, training
from fastconv import layers as L


def make_model(classes: int) -> fastconv.Sequential:
    """Return a small network; it learns the shape of the images from the first batch."""
    return fastconv.Sequential(
        [
            L.Conv2d(16, 3, padding="same", bias=False),
            L.BatchNorm(),
            L.ReLU(),
            L.MaxPool2d(2),
            L.Conv2d(32, 3, padding="same", bias=False),
            L.BatchNorm(),
            L.ReLU(),
            L.MaxPool2d(2),
            L.Flatten(),
            L.Dropout(0.3),
            L.Linear(classes),
        ]
    )


def main() -> None:
    """Train, test, save, load, predict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    epochs = parser.parse_args().epochs

    (x_train, y_train), (x_test, y_test), classes = data.load_fashion_mnist_subset()
    model = make_model(len(classes))
    history = model.fit(
        x_train,
        y_train,
        epochs=epochs,
        batch_size=32,
        optimizer=fastconv.AdamW(training.OneCycle(4e-3), weight_decay=0.01),
        augment=[data.Flip(), data.Shift(1)],
        validation_data=(x_test, y_test),
        callbacks=[training.EarlyStopping("val_accuracy", patience=5), training.ModelCheckpoint("clothes.safetensors")],
        seed=1,
    )
    epoch, accuracy = history.best("val_accuracy")
    print(f"best test accuracy {accuracy:.1%}, in epoch {epoch} of {len(history)}")

    again = fastconv.load_model("clothes.safetensors")
    logits = again.predict(x_test[:5])
    for image, (row, label) in enumerate(zip(logits, y_test, strict=False)):
        print(f"image {image}: {classes[np.argmax(row)]}, is {classes[label]}")


if __name__ == "__main__":
    main()
