"""Pretrained weights: from PyTorch and Keras into models whose layers have the same names.

>>> import numpy as np
>>> from fastconv.layers import Linear
>>> from fastconv.sequential import Sequential
>>> model = Sequential([Linear(2).named("fc")], input_shape=(3,))
>>> _ = load_torch_weights(model, {"fc.weight": np.ones((2, 3)), "fc.bias": np.zeros(2)})
>>> model.params["fc/weight"].shape
(3, 2)
"""

from fastconv.weights.keras import load_keras_weights
from fastconv.weights.match import Unfit, WeightsError
from fastconv.weights.pytorch import load_torch_weights, torch_state_dict

__all__ = ["Unfit", "WeightsError", "load_keras_weights", "load_torch_weights", "torch_state_dict"]
