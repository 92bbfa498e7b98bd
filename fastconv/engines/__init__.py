"""Comparison with other inference engines, behind ``fastconv bench`` and ``python -m benchmarks engines``.

====================  ==============================================================================================
``engine.py``         the engines, the packages that they need, the settings among which the best counts
``files.py``          the ONNX file that all of them load, its batch, arrays for its inputs
``comparison.py``     turns: one engine works while the others wait; what comes out
``process.py``        the process of one engine, from outside
``worker.py``         the same from inside: a program that imports nothing but its engine
``disturbance.py``    what other programs did meanwhile
``openers.py``        how each engine loads a file
====================  ==============================================================================================
"""

from __future__ import annotations

from fastconv.engines.comparison import Comparison, Measured, compare
from fastconv.engines.engine import Engine, engines
from fastconv.engines.files import Network, network
from fastconv.engines.process import EngineError

__all__ = ["Comparison", "Engine", "EngineError", "Measured", "Network", "compare", "engines", "network"]
