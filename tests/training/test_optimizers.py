"""Optimizers: steps by hand and against their formulae, clipping, state, and no memory taken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastconv
from fastconv.training import SGD, Adam, AdamW, Cosine, Optimizer, RMSprop, get_optimizer, register_optimizer
from fastconv.training import optimizer as base

Arrays = dict[str, np.ndarray]

MAKERS: list[Callable[[], Optimizer]] = [
    lambda: SGD(0.1),
    lambda: SGD(0.1, weight_decay=0.02),
    lambda: SGD(0.1, momentum=0.9),
    lambda: SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.02),
    lambda: Adam(0.01),
    lambda: Adam(0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1),
    lambda: AdamW(0.01, weight_decay=0.1),
    lambda: RMSprop(0.01),
    lambda: RMSprop(0.01, decay=0.9, momentum=0.8, weight_decay=0.1),
    lambda: Adam(0.01, clip_norm=0.5),
    lambda: SGD(0.1, momentum=0.9, clip_value=0.3, weight_decay=0.02),
]
EVERY = pytest.mark.parametrize("make", MAKERS, ids=lambda make: repr(make()))


def problem(dtype: Any = np.float64) -> tuple[Arrays, list[Arrays]]:
    rng = np.random.default_rng(0)
    shapes = {"conv/weight": (3, 3, 2, 4), "conv/bias": (4,), "scalar": (), "empty": (0, 3)}
    params = {name: np.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()}
    grads = [{name: np.asarray(rng.normal(size=shape), dtype) for name, shape in shapes.items()} for _ in range(7)]
    return params, grads


def formula(optimizer: Any, p: np.ndarray, gradients: list[np.ndarray], factors: list[float]) -> np.ndarray:
    """Return the parameter after all steps, as the papers write them."""
    rate, decay = optimizer.rate, optimizer.weight_decay
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, (g, factor) in enumerate(zip(gradients, factors, strict=True), start=1):
        g = g * factor
        if optimizer.clip_value is not None:
            g = np.clip(g, -optimizer.clip_value, optimizer.clip_value)
        if isinstance(optimizer, AdamW):
            p = p - rate * decay * p
        else:
            g = g + decay * p
        if isinstance(optimizer, SGD):
            m = optimizer.momentum * m + g
            p = p - rate * (g + optimizer.momentum * m if optimizer.nesterov else m)
        elif isinstance(optimizer, Adam):
            b1, b2 = optimizer.betas
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g**2
            p = p - rate * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + optimizer.eps)
        else:
            v = optimizer.decay * v + (1 - optimizer.decay) * g**2
            m = optimizer.momentum * m + g / (np.sqrt(v) + optimizer.eps)
            p = p - rate * m
    return p


@EVERY
def test_steps_follow_the_formula(make: Callable[[], Optimizer]) -> None:
    params, grads = problem()
    start = {name: array.copy() for name, array in params.items()}
    optimizer = make()
    for step in grads:
        optimizer.step(params, step)
    norms = [np.sqrt(sum((g**2).sum() for g in step.values())) for step in grads]
    factors = [1.0 if optimizer.clip_norm is None else min(1.0, optimizer.clip_norm / norm) for norm in norms]
    for name in params:
        expected = formula(make(), start[name], [step[name] for step in grads], factors)
        np.testing.assert_allclose(params[name], expected, rtol=1e-10, atol=1e-12)
    assert optimizer.steps == len(grads)


def test_one_step_by_hand() -> None:
    def stepped(optimizer: Optimizer, times: int = 1) -> list[float]:
        params = {"p": np.array([1.0, -2.0])}
        for _ in range(times):
            optimizer.step(params, {"p": np.array([0.5, 4.0])})
        return params["p"].tolist()

    assert stepped(SGD(0.1)) == pytest.approx([0.95, -2.4])
    assert stepped(SGD(0.1, momentum=0.5), 2) == pytest.approx([0.95 - 0.075, -2.4 - 0.6])
    assert stepped(SGD(0.1, momentum=0.5, nesterov=True)) == pytest.approx([1 - 0.075, -2.6])
    assert stepped(SGD(0.1, weight_decay=0.5)) == pytest.approx([1 - 0.1, -2 - 0.3])
    assert stepped(Adam(0.1)) == pytest.approx([0.9, -2.1])
    assert stepped(AdamW(0.1, weight_decay=0.5)) == pytest.approx([0.95 - 0.1, -1.9 - 0.1])
    assert stepped(RMSprop(0.1, decay=0.75)) == pytest.approx([0.8, -2.2])
    assert stepped(SGD(1.0, clip_value=1.0)) == pytest.approx([0.5, -3.0])
    assert stepped(SGD(1.0, clip_norm=1.0)) == pytest.approx([1 - 0.5 / np.sqrt(16.25), -2 - 4 / np.sqrt(16.25)])


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kernel_gives_the_same_bits_on_any_number_of_threads(isa, make: Callable[[], Optimizer], dtype) -> None:
    rng = np.random.default_rng(1)
    start, *grads = rng.normal(size=(4, 20_011)).astype(dtype)
    results = []
    for threads in (1, 2, 3, 4):
        optimizer, params = make(), {"p": start.copy()}
        with fastconv.num_threads(threads):
            for grad in grads:
                optimizer.step(params, {"p": grad})
        results.append(params["p"])
        assert params["p"].tobytes() == results[0].tobytes()
    norms = [np.sqrt(np.square(grad.astype(np.float64)).sum()) for grad in grads]
    factors = [min(1.0, optimizer.clip_norm / norm) if optimizer.clip_norm else 1.0 for norm in norms]
    exact = formula(make(), start.astype(np.float64), [grad.astype(np.float64) for grad in grads], factors)
    np.testing.assert_allclose(results[0], exact, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)


@EVERY
def test_a_rule_that_was_replaced_is_followed(make: Callable[[], Optimizer]) -> None:
    class Twice(type(make())):  # type: ignore[misc]
        def update(self, param, grad, state, rate, scratch):
            super().update(param, grad, state, rate, scratch)
            param -= 1

    ours, theirs = {"p": np.ones(5)}, {"p": np.ones(5)}
    make().step(ours, {"p": np.arange(5.0)})
    optimizer = make()
    replaced = Twice.__new__(Twice)
    replaced.__dict__.update(optimizer.__dict__)
    replaced.step(theirs, {"p": np.arange(5.0)})
    np.testing.assert_allclose(theirs["p"], ours["p"] - 1, rtol=1e-12)


@EVERY
def test_in_place_in_float32_and_gradients_untouched(make: Callable[[], Optimizer]) -> None:
    params, grads = problem(np.float32)
    same = dict(params)
    for step in grads:
        for array in step.values():
            array.flags.writeable = False
    optimizer = make()
    for step in grads:
        optimizer.step(params, step)
    assert all(params[name] is same[name] for name in same)
    for arrays in optimizer.state_dict()["arrays"].values():
        assert all(array.dtype == np.float32 for array in arrays.values())


@EVERY
def test_blocks_change_nothing(make: Callable[[], Optimizer], monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for block in (base.BLOCK, 5):
        monkeypatch.setattr(base, "BLOCK", block)
        params, grads = problem()
        optimizer = make()
        for step in grads:
            optimizer.step(params, step)
        results.append(params)
    for name in results[0]:
        if optimizer.clip_norm is None:
            np.testing.assert_array_equal(results[0][name], results[1][name])
        else:
            np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-12)


@EVERY
def test_a_step_takes_no_memory(make: Callable[[], Optimizer]) -> None:
    params = {"weight": np.ones(500_000, np.float32), "bias": np.ones(100, np.float32)}
    optimizer = make()
    optimizer.step(params, params | {"weight": params["weight"] * 2})
    grads = {name: array.copy() for name, array in params.items()}
    tracemalloc.start()
    try:
        optimizer.step(params, grads)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000


def test_memory_orders() -> None:
    params, grads = problem()
    plain, _ = problem()
    turned = {name: np.asfortranarray(array) for name, array in params.items()}
    views = {"conv/weight": np.zeros((3, 3, 2, 8))[..., ::2]}
    views["conv/weight"][...] = params["conv/weight"]
    optimizers = [Adam(), Adam(), Adam()]
    for step in grads:
        optimizers[0].step(plain, step)
        optimizers[1].step(turned, {name: np.asfortranarray(grad) for name, grad in step.items()})
        optimizers[2].step(views, {"conv/weight": step["conv/weight"]})
    for name in plain:
        np.testing.assert_array_equal(plain[name], turned[name])
    np.testing.assert_array_equal(plain["conv/weight"], views["conv/weight"])


def test_parameters_without_a_gradient_stay() -> None:
    params, grads = problem()
    before = params["conv/weight"].copy()
    AdamW().step(params, {"conv/bias": grads[0]["conv/bias"]})
    np.testing.assert_array_equal(params["conv/weight"], before)


@EVERY
def test_state_goes_on(make: Callable[[], Optimizer]) -> None:
    params, grads = problem(np.float32)
    whole, halves = make(), make()
    for step in grads:
        whole.step(params, step)
    resumed, _ = problem(np.float32)
    for step in grads[:3]:
        halves.step(resumed, step)
    state = halves.state_dict()
    after = make()
    after.load_state_dict(state)
    for step in grads[3:]:
        after.step(resumed, step)
    for name in params:
        np.testing.assert_array_equal(resumed[name], params[name])
    assert after.steps == whole.steps
    if after.slots:
        slot = after.slots[0]
        assert state["arrays"][slot]["conv/weight"].shape == (3, 3, 2, 4)
        assert not np.shares_memory(
            after.state_dict()["arrays"][slot]["conv/weight"], state["arrays"][slot]["conv/weight"]
        )


def test_state_of_something_else() -> None:
    state = SGD(0.1, momentum=0.9).state_dict()
    with pytest.raises(ValueError, match="this is the state of the optimizer 'sgd', and here it is 'adam'"):
        Adam().load_state_dict(state)
    with pytest.raises(ValueError, match="state of the schedule None, and here it is 'Cosine'"):
        SGD(Cosine(0.1), momentum=0.9).load_state_dict(state)
    with pytest.raises(ValueError, match=r"a state with the arrays \['velocity'\], and SGD\(.*\) keeps \[\]"):
        SGD(0.1).load_state_dict(state)
    params, grads = problem(np.float32)
    optimizer = Adam()
    optimizer.step(params, grads[0])
    state = optimizer.state_dict()
    state["arrays"]["mean"]["conv/bias"] = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match=r"state of 'conv/bias' has arrays of shapes \(2, 2\) and \(4,\)"):
        optimizer.load_state_dict(state)
    with pytest.raises(ValueError, match=r"'conv/bias' is float32 of shape \(5,\), but .* shape \(4,\): use a new"):
        optimizer.step({"conv/bias": np.zeros(5, np.float32)}, {"conv/bias": np.zeros(5, np.float32)})
    with pytest.raises(ValueError, match=r"'conv/bias' is float64 .* state of it float32"):
        optimizer.step({"conv/bias": np.zeros(4)}, {"conv/bias": np.zeros(4)})


def test_a_wrong_gradient_changes_nothing() -> None:
    params, grads = problem()
    before = {name: array.copy() for name, array in params.items()}
    for wrong, message in (
        ({"unknown": np.zeros(3)}, "grads has 'unknown', which is not among the 4 parameters"),
        ({"conv/bias": np.zeros((4, 1))}, r"the gradient of 'conv/bias' must be float64 of shape \(4,\).*\(4, 1\)"),
        ({"conv/bias": np.zeros(4, np.float32)}, "the gradient of 'conv/bias' must be float64 .* got float32"),
    ):
        with pytest.raises(ValueError, match=message):
            SGD().step(params, {"conv/weight": grads[0]["conv/weight"], **wrong})
    for name in params:
        np.testing.assert_array_equal(params[name], before[name])


def test_by_name() -> None:
    for name, kind in {"sgd": SGD, "adam": Adam, "adamw": AdamW, "rmsprop": RMSprop}.items():
        assert type(get_optimizer(name)) is kind
    assert fastconv.SGD is SGD and fastconv.AdamW is AdamW
    with pytest.raises(ValueError, match=r"there is no optimizer named 'lion'; there are: adam, adamw, .*sgd"):
        get_optimizer("lion")
    with pytest.raises(TypeError, match=r"optimizer must be a name or an object .*: call it, to make one"):
        get_optimizer(SGD)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(-0.1), "learning_rate must be a number at least 0, got -0.1"),
        (lambda: SGD("fast"), "learning_rate must be a number at least 0, got 'fast'"),
        (lambda: SGD(float("nan")), "learning_rate must be"),
        (lambda: SGD(momentum=1), "momentum must be a number at least 0 and below 1, got 1"),
        (lambda: SGD(nesterov=True), "nesterov needs a momentum greater than 0"),
        (lambda: SGD(weight_decay=-1), "weight_decay must be a number at least 0"),
        (lambda: Adam(betas=(0.9,)), r"betas must be two numbers, got \(0.9,\)"),
        (lambda: Adam(betas=0.9), "betas must be two numbers, got 0.9"),
        (lambda: Adam(10**400), "learning_rate must be a number at least 0, got 1000"),
        (lambda: Adam(betas=(0.9, 1.0)), r"betas\[1\] must be a number at least 0 and below 1"),
        (lambda: Adam(eps=0), "eps must be a number greater than 0"),
        (lambda: RMSprop(decay=2), "decay must be a number at least 0 and below 1"),
        (lambda: Adam(clip_norm=0), "clip_norm must be a number greater than 0"),
        (lambda: Adam(clip_value=-1), "clip_value must be a number greater than 0"),
    ],
)
def test_arguments(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_schedule_is_asked_at_every_step() -> None:
    optimizer = SGD(Cosine(1.0, length=4, warmup=2))
    params = {"p": np.zeros(1)}
    rates = []
    for _ in range(4):
        rates.append(optimizer.rate)
        optimizer.step(params, {"p": np.ones(1)})
        assert optimizer.last_rate == rates[-1]
    assert rates == pytest.approx([0, 0.5, 1, 0.5])
    assert params["p"][0] == pytest.approx(-2)
    optimizer.plan(steps_per_epoch=2, epochs=4)
    assert optimizer.rate == pytest.approx(1.0)


def test_an_optimizer_of_ones_own() -> None:
    @register_optimizer("tests.Sign")
    class Sign(Optimizer):
        slots = ("last",)

        def update(self, param: Any, grad: Any, state: Any, rate: float, scratch: Any) -> None:
            np.sign(grad, out=scratch)
            scratch *= rate
            param -= scratch
            state["last"][...] = grad

    params, grads = problem()
    optimizer = Sign(0.1)
    optimizer.step(params, grads[0])
    np.testing.assert_array_equal(optimizer.state_dict()["arrays"]["last"]["conv/bias"], grads[0]["conv/bias"])
    assert optimizer.state_dict()["optimizer"] == "tests.Sign"
    with pytest.raises(NotImplementedError, match="Optimizer must define update"):
        Optimizer(0.1).step(params, grads[0])
