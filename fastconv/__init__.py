"""Convolutional neural networks on the CPU."""

from fastconv.threads import get_num_threads, num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = ["get_num_threads", "num_threads", "set_num_threads"]
