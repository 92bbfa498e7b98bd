"""Frozen models: the inference compiler behind `fastconv.freeze`. How it works is in docs/inference.md.

===================  =================================================================================================
``lower``            from a model to a program: a flat list of steps over values
``program``          what a program is
``operation``, ``weighted``, ``unweighted``, ``pooling``, ``normalization``, ``moves``, ``copies``, ``foreign``, ``activations``
                     what a step can be, and which calls of kernels it makes
``passes``, ``formulas``, ``chains``, ``parted``, ``picking``
                     from a program to one that computes the same with less work
``portions``, ``bands``, ``blocks``
                     how steps go over large batches and large images
``memory``, ``places``
                     where values lie
``plan``             a program for inputs of one shape
``workspace``        the memory that it runs in, and a call
``model``            `freeze`, `FrozenModel`
``files``            frozen models as files
``explanation``      what each step does, and how long it takes
===================  =================================================================================================

The package is not called ``freeze``, because ``fastconv.freeze`` is the function.
"""

from fastconv.frozen.files import load_frozen
from fastconv.frozen.model import FrozenModel, freeze

__all__ = ["FrozenModel", "freeze", "load_frozen"]
