"""Convolutions against PyTorch in the better of its two memory formats: ``python -m benchmarks.conv --threads 1 2``.

The cases are the distinct 3x3 convolutions of ResNet-50 (He et al. 2016, table 1, with the stride in the 3x3 layer). Besides
times the table gives the effective rate in GFLOP/s (2 operations for each multiply-add of the definition, padding included)
and its share of the peak: the rate of our own register tile on operands that stay in the caches, in the same run.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.turns import in_turns

ENGINES = ("fastconv", "torch contiguous", "torch channels_last")


class Case(NamedTuple):
    """One square two-dimensional convolution."""

    name: str
    batch: int
    size: int
    channels: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1

    @property
    def operations(self) -> int:
        """Twice the multiply-adds."""
        out = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        return 2 * self.batch * out**2 * self.kernel**2 * self.channels * self.outputs

    def __str__(self) -> str:
        return (
            f"{self.name:<8} {self.batch:>3} x {self.size:>3}^2  {self.channels:>4} -> {self.outputs:<4} "
            f"{self.kernel}x{self.kernel} / {self.stride}"
        )


RESNET50 = [
    Case("conv2_x", 1, 56, 64, 64),
    Case("conv3_1", 1, 56, 128, 128, stride=2),
    Case("conv3_x", 1, 28, 128, 128),
    Case("conv4_1", 1, 28, 256, 256, stride=2),
    Case("conv4_x", 1, 14, 256, 256),
    Case("conv5_1", 1, 14, 512, 512, stride=2),
    Case("conv5_x", 1, 7, 512, 512),
]

#: A 1x1 convolution whose operands stay in the second-level cache: what is left is the register tile.
PEAK = Case("peak", 1, 28, 256, 512, kernel=1, padding=0)


def prepare(engine: str, threads: int, case: Case) -> Callable[[], Any]:
    """Return the call to time, on arrays drawn from one seed."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((case.batch, case.size, case.size, case.channels), dtype=np.float32)
    weight = rng.standard_normal((case.kernel, case.kernel, case.channels, case.outputs), dtype=np.float32)
    if engine == "fastconv":
        import fastconv

        fastconv.set_num_threads(threads)
        return lambda: fastconv.functional.conv(x, weight, stride=case.stride, padding=case.padding)
    import torch

    torch.set_num_threads(threads)
    layout = torch.channels_last if engine.endswith("channels_last") else torch.contiguous_format
    images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    kernel = torch.from_numpy(weight).permute(3, 2, 0, 1).contiguous(memory_format=layout)

    def call() -> Any:
        with torch.inference_mode():
            return torch.nn.functional.conv2d(images, kernel, stride=case.stride, padding=case.padding)

    return call


def main() -> None:
    """Measure and print a table for each number of threads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cases = [case._replace(batch=batch) for batch in options.batch for case in RESNET50]
    for threads in options.threads:
        print(
            f"\n{threads} thread{'s' * (threads > 1)}; times are medians in ms, the ratio is PyTorch's better time over ours"
        )
        measured = in_turns(prepare, ENGINES, threads, [PEAK, *cases], rounds=options.rounds)
        _, seconds = next(iter(measured))
        peak = PEAK.operations / seconds["fastconv"] / 1e9
        print(f"peak of the register tile: {peak:.0f} GFLOP/s")
        print(f"{'case':<38}{'ours':>8}{'PyTorch':>9}{'GFLOP/s':>9}{'of peak':>9}{'ratio':>7}")
        ratios = []
        for case, seconds in measured:
            ours, theirs = seconds["fastconv"], min(seconds[engine] for engine in ENGINES[1:])
            rate = case.operations / ours / 1e9
            ratios.append(theirs / ours)
            print(
                f"{case!s:<38}{ours * 1e3:8.2f}{theirs * 1e3:9.2f}{rate:9.0f}{rate / peak:9.0%}{ratios[-1]:7.2f}",
                flush=True,
            )
        print(f"{'geometric mean':<71}{math.exp(sum(map(math.log, ratios)) / len(ratios)):7.2f}")


if __name__ == "__main__":
    main()
