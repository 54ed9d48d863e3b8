"""Losses in chunks of positions have the numbers of all at once and the memory of a chunk.

Training objectives follow their equation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import load as config_lib
from scaling.models import losses
from scaling.programs import ahead_of_time, schedules, train_step
from scaling.utils.errors import UserError

B, T, D, V = 2, 12, 8, 50


@pytest.mark.parametrize("chunk", [1, 4, 6, 12])
def test_chunks_give_the_losses_and_gradients_of_all_at_once(chunk):
    keys = jax.random.split(jax.random.key(0), 3)
    x_BTD, head_DV = jax.random.normal(keys[0], (B, T, D)), jax.random.normal(keys[1], (D, V))
    targets_BT = jax.random.randint(keys[2], (B, T), 0, V)

    def weighted(chunk):
        def total(x_BTD, head_DV):
            def of(x, y):
                return losses.token_losses(x @ head_DV, y)

            found_BT = losses.in_chunks(of, x_BTD, targets_BT, chunk)
            return (found_BT * jnp.arange(B * T).reshape(B, T)).sum(), found_BT

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(x_BTD, head_DV)

    for a, b in zip(jax.tree.leaves(weighted(chunk)), jax.tree.leaves(weighted(0)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_fifty_thousand_logits_are_never_whole(config):
    """The training program's own memory, with the loss in chunks and whole, at context 1,024."""
    large = config_lib.with_values(
        config,
        {
            "data.tokenizer": "bpe",
            "data.vocab_size": 50_000,
            "data.seq_len": 1024,
            "train.batch_size": 4,
            "train.tokens": 4096 * 16,
        },
    )
    whole, auto = (
        ahead_of_time.compiled(config_lib.with_values(large, {"model.loss_chunk": chunk})).temporary
        for chunk in (None, "auto")
    )
    assert whole > 2 * 1024 * 50_000 * 4, "a device has two sequences"
    assert auto < whole / 3


@pytest.mark.parametrize(
    ("choice", "vocab_size", "shards", "chunk"),
    [
        ("auto", 256, 1, 0),
        ("auto", 32_768, 1, 128),
        ("auto", 32_768, 4, 0),
        (None, 32_768, 1, 0),
        (64, 256, 1, 64),
    ],
)  # fmt: skip
def test_large_vocabularies_are_taken_in_chunks(choice, vocab_size, shards, chunk):
    picked = losses.pick_chunk(choice, vocab_size=vocab_size, seq_len=1024, sequence_shards=shards)
    assert picked == chunk


@pytest.mark.parametrize(
    ("choice", "shards", "message"),
    [
        (100, 1, "loss_chunk=100 does not divide config.data.seq_len=1024; "
         "the nearest that does is 128"),
        (-2, 1, "loss_chunk=-2 does not divide"),
        (64, 2, "cuts positions that config.parallel.sequence=2 splits already"),
    ],
)  # fmt: skip
def test_chunks_that_do_not_fit_are_one_line(choice, shards, message):
    with pytest.raises(UserError, match=message):
        losses.pick_chunk(choice, vocab_size=256, seq_len=1024, sequence_shards=shards)


TERMS = {
    "smoothing": losses.LossTerms(0.1, 0.0, 0.0),
    "z": losses.LossTerms(0.0, 1e-2, 0.0),
    "focal": losses.LossTerms(0.0, 0.0, 2.0),
    "all": losses.LossTerms(0.2, 1e-2, 0.5),
}


def objective(logits_NV, q_NV, terms):
    """The equation at the top of losses.py in float64, for any target distribution q."""
    logits_NV = np.float64(logits_NV)
    total_N1 = np.log(np.exp(logits_NV).sum(axis=1, keepdims=True))
    p_NV = np.exp(logits_NV - total_N1)
    q_NV = (1 - terms.label_smoothing) * q_NV + terms.label_smoothing / logits_NV.shape[1]
    losses_N = (q_NV * (1 - p_NV) ** terms.focal_gamma * -np.log(p_NV)).sum(axis=1)
    return losses_N + terms.z_loss * total_N1[:, 0] ** 2


@pytest.mark.parametrize("name", TERMS)
def test_objectives_follow_their_equation_also_of_two_labels_mixed(name):
    rng = np.random.default_rng(0)
    logits_NV, hot_NV = rng.normal(0, 2, (20, V)).astype(np.float32), np.eye(V)
    y_N, y2_N, mix_N = rng.integers(0, V, 20), rng.integers(0, V, 20), rng.uniform(size=20)
    found = losses.token_losses(jnp.array(logits_NV), y_N, TERMS[name])
    expected = objective(logits_NV, hot_NV[y_N], TERMS[name])
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = losses.mixed_losses(jnp.array(logits_NV), y_N, y2_N, mix_N, TERMS[name])
    soft_NV = mix_N[:, None] * hot_NV[y_N] + (1 - mix_N)[:, None] * hot_NV[y2_N]
    np.testing.assert_allclose(found, objective(logits_NV, soft_NV, TERMS[name]), rtol=1e-5)


@pytest.mark.parametrize("chunk", [0, 4])
def test_training_follows_the_objective_and_reports_the_cross_entropy(chunk):
    keys = jax.random.split(jax.random.key(1), 3)
    x_BTD, head_DV = jax.random.normal(keys[0], (B, T, D)), jax.random.normal(keys[1], (D, V))
    targets_BT = jax.random.randint(keys[2], (B, T), 0, V)
    terms = TERMS["all"]

    def trained(head_DV):
        def of(x, y):
            return losses.trained_losses(x @ head_DV, y, terms)

        return losses.in_chunks(of, x_BTD, targets_BT, chunk).mean()

    value, slope_DV = jax.value_and_grad(trained)(head_DV)
    plain = losses.token_losses(x_BTD @ head_DV, targets_BT).mean()
    assert value == pytest.approx(float(plain), rel=1e-6)
    direct_DV = jax.grad(lambda w: losses.token_losses(x_BTD @ w, targets_BT, terms).mean())(
        head_DV
    )
    np.testing.assert_allclose(slope_DV, direct_DV, rtol=1e-4, atol=1e-6)
    assert abs(slope_DV - jax.grad(
        lambda w: losses.token_losses(x_BTD @ w, targets_BT).mean()
    )(head_DV)).max() > 1e-3  # fmt: skip


def test_a_certain_token_has_a_finite_focal_slope():
    logits_1V = jnp.zeros((1, V)).at[0, 3].set(200.0)
    for gamma in (0.5, 1.0, 2.0):
        terms = losses.LossTerms(0.0, 0.0, gamma)
        for target in (3, 4):
            slope = jax.grad(lambda x: losses.token_losses(x, jnp.array([target]), terms).sum())  # noqa: B023
            assert jnp.isfinite(slope(logits_1V)).all()


@pytest.mark.slow
def test_terms_train_alike_on_a_split_vocabulary_and_leave_the_held_out_loss(config):
    values = {"optim.label_smoothing": 0.1, "optim.z_loss": 1e-2, "optim.focal_gamma": 1.0}
    hyper_R = {k: np.full(1, v, np.float32) for k, v in schedules.hyperparameters(config).items()}
    shape = (config.train.steps_per_dispatch, config.train.batch_size, config.data.seq_len + 1)
    tokens_KBT1 = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    zero_R, found = np.zeros(1, np.int32), {}
    for name, chosen in {
        "plain": {},
        "terms": values,
        "split": {**values, "parallel.tensor": 2, "model.loss_chunk": 8},
    }.items():
        programs = train_step.programs(config_lib.with_values(config, chosen))
        state = programs.init(0)
        held_out = np.asarray(programs.readings(state["params"], tokens_KBT1[0])["loss"])
        batch = programs.batch(tokens_KBT1[None])
        _, metrics = programs.train(state, hyper_R, batch, zero_R, zero_R, zero_R + 8)
        found[name] = held_out, *(np.asarray(metrics[k])[:8] for k in ("loss", "grad_norm"))
    for name in ("terms", "split"):
        np.testing.assert_allclose(found[name][0], found["plain"][0], rtol=1e-5)
        np.testing.assert_allclose(found[name][1][0], found["plain"][1][0], rtol=1e-5)
        assert abs(found[name][2] / found["plain"][2] - 1).min() > 0.02, "the same gradient"
        for one, other in zip(found[name][1:], found["terms"][1:], strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4)


def test_terms_name_a_run_where_they_change_it(config):
    named = config_lib.run_id(config)
    for key in ("label_smoothing", "z_loss", "focal_gamma"):
        changed = config_lib.with_values(config, {f"optim.{key}": 0.5})
        assert config_lib.run_id(changed) != named
        with pytest.raises(UserError, match=f"config.optim.{key}=-0.5 should"):
            config_lib.with_values(config, {f"optim.{key}": -0.5})
    with pytest.raises(UserError, match="label_smoothing=1 leaves nothing of the target"):
        config_lib.with_values(config, {"optim.label_smoothing": 1.0})
