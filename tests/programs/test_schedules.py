"""Schedules by their equations, AdamW against optax's own."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling.config import load as config_lib
from scaling.models.parameters import Matrix, ParamInfo
from scaling.programs import optim, schedules

HYPER = {"lr": 1.0, "final_lr": 0.1, "warmup": 10.0, "total": 100.0, "decay": 20.0}


def rates(schedule):
    steps = jnp.arange(100)
    return np.asarray(jax.vmap(lambda s: schedules.learning_rate(schedule, s, HYPER))(steps))


def test_warmup_is_linear_and_reaches_the_peak():
    for schedule in ("constant", "cosine", "wsd"):
        np.testing.assert_allclose(rates(schedule)[:10], np.arange(1, 11) / 10, rtol=1e-6)


def test_cosine_falls_to_its_end_by_the_equation():
    lr = rates("cosine")
    expected = 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * (np.arange(11, 101) - 10) / 90))
    np.testing.assert_allclose(lr[10:], expected, rtol=1e-5)
    assert lr[-1] == pytest.approx(0.1)


def test_wsd_is_flat_and_then_linear():
    lr = rates("wsd")
    np.testing.assert_allclose(lr[10:80], 1.0, rtol=1e-6)
    np.testing.assert_allclose(lr[80:], 0.1 + 0.9 * np.arange(19, -1, -1) / 20, rtol=1e-5)


def test_wsd_that_does_not_decay_keeps_its_rate_to_the_last_step():
    step = jnp.arange(100)
    lr = jax.vmap(lambda s: schedules.learning_rate("wsd", s, HYPER | {"decay": 0.0}))(step)
    np.testing.assert_allclose(lr[10:], 1.0, rtol=1e-6)


def test_constant_stays():
    np.testing.assert_allclose(rates("constant")[10:], 1.0)


def test_steps_equal_optax_adamw():
    section = config_lib.load("configs/base.py").optim
    params = {"w": jnp.ones((3, 2)), "norm": {"scale": jnp.ones(2)}}
    grads = jax.tree.map(lambda p: 3.0 * jnp.arange(p.size).reshape(p.shape) - 1.0, params)
    ours, state = params, None
    infos = {
        "w": ParamInfo(("embed", "mlp"), Matrix((-2,), (-1,)), decay=True),
        "norm": {"scale": ParamInfo(("embed",), None, decay=False)},
    }
    transform = optim.optimizer(section, {"weight_decay": 0.1}, infos)
    state = transform.init(params)
    reference = optax.chain(
        optax.clip_by_global_norm(section.clip),
        optax.adamw(
            0.01, b1=section.beta1, b2=section.beta2, eps=section.eps, weight_decay=0.1,
            mask={"w": True, "norm": {"scale": False}},
        ),
    )  # fmt: skip
    theirs, their_state = params, reference.init(params)
    for _ in range(3):
        updates, state = transform.update(grads, state, ours)
        ours = optim.apply_updates(ours, updates, 0.01, infos, "adamw")
        updates, their_state = reference.update(grads, their_state, theirs)
        theirs = optax.apply_updates(theirs, updates)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
