"""Measuring engines: each in a process of its own, the processes in turn."""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastconv.engines.disturbance import Disturbance
from fastconv.engines.engine import Engine
from fastconv.engines.files import Network
from fastconv.engines.process import EngineError, EngineProcess

PAUSE = 0.02  # seconds before each turn: the threads of the engine before go to sleep
SLOW = 0.3  # seconds of a call of which `FEW` turns must do
FEW = 3

#: What may be no finite number.
NUMBERS = ("difference", "disturbance")

_Item = TypeVar("_Item")


class Measured(NamedTuple):
    """What one engine took: seconds, medians of all calls and of all starts; bytes of memory.

    `import_`, `load` and `first` are of fresh processes: importing the engine, loading the model (for us: freezing it too), and
    the first call after that. `before` is what the process had in memory before the model came, `peak` the most
    that it ever had: interpreter, libraries, the file's weights, everything. `error` is why there are no figures.
    """

    engine: str
    settings: str = ""
    seconds: float = 0.0
    least: float = 0.0
    calls: int = 0
    import_: float = 0.0
    load: float = 0.0
    first: float = 0.0
    before: int = 0
    peak: int = 0
    error: str = ""


class Comparison(NamedTuple):
    """A network with one batch and one number of threads: each engine with its best settings, ours first.

    `difference` is the largest one between outputs of any two engines, as a share of the largest output. `disturbance` is the
    share of all processors' time that other programs had during the turns, not a number where that is unknown.
    """

    network: str
    batch: int
    threads: int
    engines: tuple[Measured, ...]
    difference: float
    disturbance: float = math.nan

    @property
    def ours(self) -> Measured:
        """What fastconv took."""
        return self.engines[0]

    @property
    def others(self) -> list[Measured]:
        """What the others took that can run the network."""
        return [each for each in self.engines[1:] if not each.error]

    @property
    def best(self) -> Measured | None:
        """The fastest of the others; None where there is none, or fastconv has no figures."""
        return min(self.others, key=lambda each: each.seconds) if self.others and not self.ours.error else None

    @property
    def ratio(self) -> float | None:
        """How many times as fast as the best of the others fastconv is."""
        return self.best.seconds / self.ours.seconds if self.best else None

    @property
    def errors(self) -> list[str]:
        """Why engines have no figures."""
        return [f"{each.engine}: {each.error}" for each in self.engines if each.error]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values; None for what is not a finite number."""
        values = {**self._asdict(), "engines": [each._asdict() for each in self.engines]}
        return {**values, **{key: None for key in NUMBERS if not math.isfinite(values[key])}}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Comparison:
        """Return what `as_dict` was made of."""
        numbers = {key: math.nan for key in NUMBERS if values[key] is None}
        return cls(**{**values, **numbers, "engines": tuple(Measured(**each) for each in values["engines"])})


def compare(
    network: Network,
    engines: Sequence[Engine],
    *,
    rounds: int = 5,
    seconds: float = 0.2,
    starts: int = 3,
    progress: Callable[[str], None] = lambda text: None,
) -> Comparison:
    """Measure what engines take for one network.

    Parameters
    ----------
    network : Network
    engines : list of Engine
        Ours first. Of several with one name the fastest counts.
    rounds : int
        Turns of each engine; at least two, and no more than `FEW`, where a call is slow.
    seconds : float
        Of a turn, at least one call.
    starts : int
        Fresh processes of each engine, to load and call once.
    progress : function
        Is told what happens.
    """
    network.path.read_bytes()  # the first to load should not be the one that waits for the disk
    runs = [_Run(engine) for engine in engines]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, **network.inputs)  # type: ignore[arg-type]
        request = {"model": str(network.path), "inputs": str(inputs), "sizes": network.sizes}
        outputs = [Path(folder) / f"outputs_{number}.npz" for number in range(len(runs))]
        # in turn: memory that nobody used for a while costs whoever comes first more
        for start in range(starts):
            for run, path in _rotated(list(zip(runs, outputs, strict=True)), start):
                progress(f"{run.engine}: loading, {start + 1} of {starts}")
                run.start({**request, "outputs": str(path)}, stack if start + 1 == starts else None)
        watch = Disturbance(run.process.pid for run in runs if run.process is not None)
        for number in range(rounds):
            if number >= FEW and max((run.took[-1] for run in runs if run.took), default=0.0) > SLOW:
                break
            for run in _rotated(runs, number):
                progress(f"{run.engine}: turn {number + 1} of {rounds}")
                run.turn(seconds)
        disturbance = watch.share()
        difference = largest_difference([run.outputs for run in runs if run.outputs is not None])
        measured = [run.measured() for run in runs]
    best = [
        _best([each for each in measured if each.engine == name]) for name in dict.fromkeys(e.name for e in engines)
    ]
    return Comparison(network.name, network.batch, engines[0].threads, tuple(best), difference, disturbance)


class _Run:
    """One engine during a comparison."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.process: EngineProcess | None = None
        self.started: list[dict[str, float]] = []
        self.took: list[float] = []
        self.outputs: list[np.ndarray] | None = None
        self.error = ""

    def start(self, request: dict[str, Any], stack: ExitStack | None) -> None:
        """Load and call once in a fresh process, which stays if there is a stack for it."""
        if self.error:
            return
        name, threads, settings, program = self.engine
        request = {
            "program": program,
            "function": f"open_{name}",
            "threads": threads,
            "settings": dict(settings),
            **request,
        }
        time.sleep(PAUSE)
        try:
            with ExitStack() as here:
                process = (stack or here).enter_context(EngineProcess(self.engine))
                self.started.append(process.ask("start", **request))
        except EngineError as error:
            self.fail(error)
            return
        if stack is not None:
            self.process = process
            with np.load(request["outputs"]) as arrays:
                self.outputs = list(arrays.values())

    def turn(self, seconds: float) -> None:
        """Time calls while the others wait."""
        if self.process is not None:
            time.sleep(PAUSE)
            try:
                self.took += self.process.ask("block", seconds=seconds)["took"]
            except EngineError as error:
                self.fail(error)

    def fail(self, error: EngineError) -> None:
        """Take no further part."""
        self.process, self.error = None, str(error)

    def measured(self) -> Measured:
        """Return the figures, and end the process."""
        settings = str(self.engine).removeprefix(self.engine.name).strip()
        if self.process is not None:
            try:
                peak = self.process.ask("memory")["peak"]
            except EngineError as error:
                self.fail(error)
        if self.process is None:
            return Measured(self.engine.name, settings, error=self.error)
        import_, load, first, before = (
            statistics.median(each[key] for each in self.started) for key in ("import", "load", "first", "before")
        )
        return Measured(
            *(self.engine.name, settings, statistics.median(self.took), min(self.took), len(self.took)),
            *(import_, load, first, int(before), int(peak)),
        )


def _best(measured: Sequence[Measured]) -> Measured:
    """Return the fastest of one engine's settings that ran."""
    return min(measured, key=lambda each: (bool(each.error), each.seconds))


def _rotated(items: Sequence[_Item], number: int) -> list[_Item]:
    """Return the items from another one on in each round: nobody always comes after the same one."""
    first = number % len(items)
    return [*items[first:], *items[:first]]


def largest_difference(outputs: Sequence[Sequence[np.ndarray]]) -> float:
    """Return the largest difference between the outputs of any two, as a share of the largest of that output.

    It is infinite where shapes differ, and not a number where a number is none.

    >>> import numpy as np
    >>> largest_difference([[np.array([1.0, 2.0])], [np.array([1.0, 2.5])]])
    0.2
    """
    differences = [0.0]
    for mine, theirs in itertools.combinations(outputs, 2):
        for a, b in zip(mine, theirs, strict=True):
            if a.shape != b.shape:
                return float("inf")
            if a.size == 0:
                continue
            a, b = a.astype(np.float64), b.astype(np.float64)
            scale = max(np.abs(a).max(), np.abs(b).max())
            differences.append(np.abs(a - b).max() / scale if scale else 0.0)
    return float(np.max(differences))  # which is not a number where one of them is none
