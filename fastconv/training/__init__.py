"""Training: from data and a model to weights.

=================  =========================================================================================
`fit`              the loop, with `evaluate` and `predict`; ``model.fit(...)`` is the same
`value_and_grad`   one pass forward and back, for a loop of one's own with ``optimizer.step``
losses             `CrossEntropy`, `BinaryCrossEntropy`, `MSE`, `Huber`; base `Loss`
optimizers         `SGD`, `Adam`, `AdamW`, `RMSprop`; base `Optimizer`
schedules          `StepDecay`, `Cosine`, `OneCycle`, `ReduceOnPlateau`; base `Schedule`
callbacks          `EarlyStopping`, `ModelCheckpoint`, `CSVLogger`, `TerminateOnNaN`, `LearningRateScheduler`,
                   `Progress`, `History`; base `Callback`
=================  =========================================================================================

The same seed gives the same weights, bit for bit, with any number of threads, and so does a run that was stopped and
resumed.
"""

from fastconv.training.callback import Callback
from fastconv.training.callbacks import EarlyStopping, LearningRateScheduler, TerminateOnNaN
from fastconv.training.checkpoint import ModelCheckpoint
from fastconv.training.fitting import fit
from fastconv.training.history import CSVLogger, History
from fastconv.training.losses import MSE, BinaryCrossEntropy, CrossEntropy, Huber, Loss, LossPerOutput, get_loss
from fastconv.training.names import callbacks as _callbacks
from fastconv.training.names import losses as _losses
from fastconv.training.names import optimizers as _optimizers
from fastconv.training.optimizer import Optimizer
from fastconv.training.optimizers import SGD, Adam, AdamW, RMSprop, get_optimizer
from fastconv.training.passes import evaluate, predict, value_and_grad
from fastconv.training.progress import Progress
from fastconv.training.run import Run
from fastconv.training.schedules import Cosine, OneCycle, ReduceOnPlateau, Schedule, StepDecay

#: Decorators that give a loss, optimizer or callback of one's own a name, as ``@fastconv.layers.register`` does for a layer.
register_loss = _losses.register
register_optimizer = _optimizers.register
register_callback = _callbacks.register

__all__ = [
    "MSE",
    "SGD",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "CSVLogger",
    "Callback",
    "Cosine",
    "CrossEntropy",
    "EarlyStopping",
    "History",
    "Huber",
    "LearningRateScheduler",
    "Loss",
    "LossPerOutput",
    "ModelCheckpoint",
    "OneCycle",
    "Optimizer",
    "Progress",
    "RMSprop",
    "ReduceOnPlateau",
    "Run",
    "Schedule",
    "StepDecay",
    "TerminateOnNaN",
    "evaluate",
    "fit",
    "get_loss",
    "get_optimizer",
    "predict",
    "register_callback",
    "register_loss",
    "register_optimizer",
    "value_and_grad",
]
