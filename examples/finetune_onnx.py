"""Fine-tuning an ONNX network on other classes: a new last layer, trained on a folder of images, and back to ONNX.

``python examples/finetune_onnx.py`` needs ``pip install 'fastconv[onnx,plot]'``. It creates what it starts from: a network for
six kinds of clothes, as an ONNX file, and a folder with a few photographs of shoes and bags. Use your own with ``--network
NETWORK.onnx --images FOLDER``: a classifier, channels first, whose last layer returns the scores, and a folder with a
subfolder of image files per class.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import fastconv
from fastconv import data, onnx
from fastconv import layers as L

KNOWN = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Shirt")  # in the order of the data
NEW = ("Sandal", "Sneaker", "Bag", "Ankle boot")


def make_network(path: Path) -> None:
    """Train a network for clothes, and write it as others do: channels first, an image ``(N, 1, 28, 28)``."""
    (x, y), _, classes = data.load_fashion_mnist_subset()
    known = [classes.index(name) for name in KNOWN]
    rows = np.isin(y, known)
    x, y = x[rows], np.searchsorted(known, y[rows])
    image = fastconv.Input((1, 28, 28), name="image")
    z = L.Transpose((2, 3, 1))(image)
    for channels in (16, 32):
        z = L.Conv2d(channels, 3, padding="same", bias=False)(z)
        z = L.MaxPool2d(2)(L.ReLU()(L.BatchNorm()(z)))
    z = L.ReLU()(L.Linear(64)(L.Flatten()(z)))
    network = fastconv.Model(image, L.Linear(len(KNOWN))(z), output_names=["clothes"])
    network.fit(x.transpose(0, 3, 1, 2), y, epochs=4, batch_size=32, verbose=False)
    onnx.save(network, path)


def make_folder(folder: Path, *, each: int = 30) -> None:
    """Write photographs of the new classes as image files, so many of each."""
    from PIL import Image

    (x, y), _, classes = data.load_fashion_mnist_subset()
    for name in NEW:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(x[y == classes.index(name)][:each]):
            Image.fromarray(image[..., 0]).save(place / f"{number}.png")


def main() -> None:
    """Load, give the network a new end, train, save as ONNX, compare with ONNX Runtime."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path, metavar="FILE.onnx", help="a classifier (one of clothes, made first)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="images by class (shoes and bags, made first)")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    network, folder = options.network or Path("clothes.onnx"), options.images or Path("shoes")
    if options.network is None:
        make_network(network)
    if options.images is None:
        make_folder(folder)

    base = onnx.load(network)
    channels, height, width = base.input_shapes[0]
    images = data.load_image_folder(
        folder, size=(height, width), mode="L" if channels == 1 else "RGB", test_fraction=0.5
    )
    (x, y), (x_test, y_test) = ((x.transpose(0, 3, 1, 2), y) for x, y in (images.train, images.test))

    # what the network sees in an image is what its last layer reads: all but that layer stays, and as it is
    base.trainable = False
    features = base.output_of(base.layers[-2])
    model = fastconv.Model(base.inputs, L.Linear(len(images.classes)).named("head")(features), output_names=["scores"])
    model.build()
    print(f"{len(y)} images of {', '.join(images.classes)}; accuracy before {accuracy(model, x_test, y_test):.1%}")
    model.fit(x, y, epochs=options.epochs, batch_size=16, optimizer=fastconv.Adam(1e-2), verbose=False)
    print(f"accuracy with the new last layer {accuracy(model, x_test, y_test):.1%}")

    # then the layers before it too, in small steps
    for layer in model.layers[-3:]:
        layer.trainable = True
    model.fit(x, y, epochs=options.epochs, batch_size=16, optimizer=fastconv.Adam(1e-3), verbose=False)
    print(f"accuracy with the last layers trained {accuracy(model, x_test, y_test):.1%}")

    onnx.save(model, "finetuned.onnx")
    compare("finetuned.onnx", model, x_test)


def accuracy(model: fastconv.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Return the share of images whose class the model finds."""
    return float(model.evaluate(x, y)["accuracy"])


def compare(path: str, model: fastconv.Model, x: np.ndarray) -> None:
    """Print how far ONNX Runtime is from the model that a file was written from."""
    try:
        import onnxruntime
    except ImportError:
        print("pip install onnxruntime to run the file there")
        return
    images = x.astype(np.float32) / 255
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (scores,) = session.run(["scores"], {session.get_inputs()[0].name: images})
    print(f"ONNX Runtime is at most {abs(scores - model(images)).max():.0e} away")


if __name__ == "__main__":
    main()
