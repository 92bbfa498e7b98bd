"""The loss: `Focal`."""

from __future__ import annotations

import numpy as np

from fastconv import functional as F
from fastconv.data import check_labels
from fastconv.training import Loss


class Focal(Loss):
    """The mean of ``-(1 - p) ** gamma * log p``, p being the probability of the true class: what is easy counts little.

    Predictions are logits ``(N, classes)``, targets integer labels ``(N,)``; ``gamma = 0`` is cross entropy. Source: T. Lin,
    P. Goyal, R. Girshick, K. He, P. Dollár, "Focal loss for dense object detection", ICCV 2017, section 3.

    Parameters
    ----------
    gamma : float, 0 or at least 1
        How much less an easy image counts.
    """

    def __init__(self, gamma: float = 2.0):
        if gamma != 0 and not 1 <= gamma < np.inf:
            raise ValueError(f"gamma must be 0 or a number of at least 1, got {gamma!r}")
        self.gamma = gamma

    def __call__(self, prediction, target):
        rows = np.arange(len(target))
        logs = F.log_softmax(prediction)
        log_p = logs[rows, target]
        p = np.exp(log_p)
        weight = (1 - p) ** self.gamma

        def backward(dvalue=1.0):
            # dL/dz_j = p dL/dp (1 where j is the true class, less the probability of j)
            slope = -weight
            if self.gamma:
                slope = slope + self.gamma * (1 - p) ** (self.gamma - 1) * p * log_p
            dlogits = -np.exp(logs)
            dlogits[rows, target] += 1
            dlogits *= (slope * (dvalue / len(target)))[:, np.newaxis]
            return dlogits.astype(prediction.dtype, copy=False)

        return -(weight * log_p).mean(), backward

    def metrics(self, prediction, target):
        return {"accuracy": float((prediction.argmax(axis=-1) == target).mean())}

    def check(self, target, output_shape, name="y"):
        check_labels(np.asarray(target), output_shape[-1], name)
