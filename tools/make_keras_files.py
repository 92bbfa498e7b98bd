"""Make the files of Keras that the tests of `fastconv.load_keras_weights` read, with Keras itself.

    KERAS_BACKEND=torch python tools/make_keras_files.py [--out tests/weights/keras]

Needs keras, one of its backends, and h5py. Two networks with random weights, one that branches and one that is a chain, each in
every format, compressed, with images and what Keras makes of them.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers as K


def branching() -> Any:
    """A shortcut around a nested model; layers with names and without, normalizations without scale or without center."""
    inside = keras.Sequential(
        [K.Input((4, 4, 2)), K.Conv2D(2, 1, name="pw"), K.BatchNormalization(name="nbn")], name="inside"
    )
    x = K.Input((8, 8, 3))
    y = K.Conv2D(2, 3, strides=2, padding="same", use_bias=False, name="first")(x)
    y = K.BatchNormalization(scale=False, name="bn")(y)
    y = K.Add()([y, inside(y)])
    y = K.LayerNormalization(center=False)(y)
    y = K.GroupNormalization(2)(y)
    y = K.Flatten()(K.Dropout(0.5)(y))
    return keras.Model(x, K.Dense(3)(y))


def chain() -> Any:
    """Layouts of every kind, one after the other, under the names that Keras gives."""
    return keras.Sequential(
        [
            K.Input((5, 6, 2)),
            K.Conv2D(4, (3, 2), dilation_rate=2, groups=2, padding="same"),
            K.DepthwiseConv2D(3, depth_multiplier=2, padding="same"),
            K.BatchNormalization(epsilon=0.01),
            K.PReLU(shared_axes=[1, 2]),
            K.Conv2DTranspose(4, 3, strides=2, padding="same"),
            K.BatchNormalization(epsilon=0.01),
            K.SeparableConv2D(3, 3, depth_multiplier=2),
            K.Flatten(),
            K.Dense(3),
        ]
    )


def main() -> None:
    """Draw the weights, save everything, and print how large it is."""
    parser = argparse.ArgumentParser(description="Make the Keras files of the tests.")
    parser.add_argument("--out", type=Path, default=Path("tests/weights/keras"), help="where to write")
    out = parser.parse_args().out
    out.mkdir(exist_ok=True)
    rng, arrays = np.random.default_rng(0), {"keras": np.array(keras.__version__)}
    for make in (branching, chain):
        keras.utils.clear_session()
        model, name = make(), make.__name__
        for weight in model.weights:
            weight.assign(rng.uniform(0.2, 1, weight.shape).astype(np.float32))
        arrays[f"{name}_x"] = rng.standard_normal((2, *model.input_shape[1:])).astype(np.float32)
        arrays[f"{name}_y"] = model.predict(arrays[f"{name}_x"], verbose=0)
        with tempfile.TemporaryDirectory() as folder:
            for save, ending in ((model.save, ".keras"), (model.save, ".h5"), (model.save_weights, ".weights.h5")):
                path = Path(folder) / f"{name}{ending}"
                save(path)
                (out / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    np.savez(out / "expected.npz", **arrays)
    print(f"{out}: {sum(path.stat().st_size for path in out.iterdir())} bytes, by Keras {keras.__version__}")


if __name__ == "__main__":
    main()
