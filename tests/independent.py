"""Convolution by an implementation that is not ours."""

from __future__ import annotations

import numpy as np
from scipy import signal


def correlate(x, weight, stride=1, padding=0, dilation=1, groups=1):
    """Return the convolution computed by `scipy.signal.correlate`, one pair of channels at a time."""
    rank = x.ndim - 2
    stride, dilation = np.broadcast_to(stride, rank), np.broadcast_to(dilation, rank)
    kernel = weight.shape[:rank]
    if padding == "same":
        span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        total = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(x.shape[1:-1], stride, span, strict=True)]
        padding = [(t // 2, t - t // 2) for t in total]
    elif not isinstance(padding, tuple) or not isinstance(padding[0], tuple):
        padding = [(p, p) for p in np.broadcast_to(padding, rank)]
    x = np.pad(x, [(0, 0), *padding, (0, 0)])
    stuffed = np.zeros([*((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)), *weight.shape[rank:]])
    stuffed[tuple(slice(None, None, d) for d in dilation)] = weight
    per_group, out = weight.shape[-2:]
    images = []
    for image in x:
        planes = []
        for o in range(out):
            start = o // (out // groups) * per_group
            plane = sum(
                signal.correlate(image[..., start + c], stuffed[..., c, o], mode="valid", method="direct")
                for c in range(per_group)
            )
            planes.append(plane[tuple(slice(None, None, s) for s in stride)])
        images.append(np.stack(planes, axis=-1))
    return np.array(images)
