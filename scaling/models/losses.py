"""Cross-entropy of every token, from the logits of all positions at once or in chunks.

Training may follow another objective than the cross-entropy -log p_y of logits with Z = sum exp:

  L(y) = sum_v q_v (1 - p_v)^gamma (-log p_v) + z (log Z)^2,   q_v = (1 - eps) [v = y] + eps / V

with label smoothing eps (Szegedy et al. 2016), focal gamma (Lin et al. 2017) and z-loss z (PaLM;
Chowdhery et al. 2022). It is linear in the target q, so that two labels mixed are their objectives
mixed (mixup; Zhang et al. 2018).

Shapes: B batch, T positions, C positions of a chunk, N chunks, D model width, V vocabulary or
classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from scaling.models import logical_axes
from scaling.utils.errors import UserError

# Vocabulary from which on "auto" takes chunks: smaller logits take less memory than activations.
LARGE = 8192
CHUNK = 128  # positions of a chunk, at most
SMALL = 16  # a context with smaller divisors alone is taken whole: so many loops would take longer


@dataclass(frozen=True)
class LossTerms:
    """Terms that training adds to the cross-entropy, each 0 for none; see the equation above."""

    label_smoothing: float  # eps
    z_loss: float  # z
    focal_gamma: float  # gamma
    # Weight of the experts' load-balance loss, see `experts.py`: of a batch, not of a token.
    balance: float = 0.0


PLAIN = LossTerms(0.0, 0.0, 0.0)


def unrounded(x: jax.Array, w_DV: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the factors of logits as float32, so that their product is not rounded to bfloat16.

    Evaluation ranks logits, and rounded ones tie. Training rounds them as all its products.
    """
    return x.astype(jnp.float32), w_DV.astype(jnp.float32)


def token_losses(
    logits_BTV: jax.Array, targets_BT: jax.Array, terms: LossTerms = PLAIN
) -> jax.Array:
    """Return the cross-entropy, or the objective of `terms`, in nats, `[B, T]` float32.

    The leading axes B and T may be any others.

    No device needs logits of another device's part of V.
    """
    logits_BTV = logits_BTV.astype(jnp.float32)
    log_total_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    if logical_axes.splits("vocab"):
        here_BTV = jnp.arange(logits_BTV.shape[-1]) == targets_BT[..., None]
        picked_BT = jnp.where(here_BTV, logits_BTV, 0.0).sum(axis=-1)
    else:
        picked_BT = jnp.take_along_axis(logits_BTV, targets_BT[..., None], axis=-1)[..., 0]
    losses_BT = log_total_BT - picked_BT
    if terms.focal_gamma:
        losses_BT = focal(losses_BT, terms.focal_gamma)
    if terms.label_smoothing:
        losses_BTV = log_total_BT[..., None] - logits_BTV
        if terms.focal_gamma:
            losses_BTV = focal(losses_BTV, terms.focal_gamma)
        eps = terms.label_smoothing
        losses_BT = (1 - eps) * losses_BT + eps * losses_BTV.mean(axis=-1)
    if terms.z_loss:
        losses_BT = losses_BT + terms.z_loss * jnp.square(log_total_BT)
    return losses_BT


def focal(losses: jax.Array, gamma: float) -> jax.Array:
    """(1 - p)^gamma (-log p) of losses -log p."""
    # rounding may leave p above 1, and a power below 1 has no slope at 0
    away = jnp.maximum(-jnp.expm1(-losses), jnp.finfo(losses.dtype).tiny)
    return away**gamma * losses


def mixed_losses(logits_NV, y_N, y2_N, mix_N, terms: LossTerms = PLAIN) -> jax.Array:
    """`token_losses` of the soft targets mix [v = y] + (1 - mix) [v = y2], `[N]` (mixup)."""
    first_N, second_N = (token_losses(logits_NV, y, terms) for y in (y_N, y2_N))
    return mix_N * first_N + (1 - mix_N) * second_N


def follow(losses_BT: jax.Array, objective_BT: jax.Array) -> jax.Array:
    """Return `losses_BT` with the gradient of `objective_BT`, so that logs show cross-entropy."""
    return objective_BT + jax.lax.stop_gradient(losses_BT - objective_BT)


def trained_losses(logits_BTV: jax.Array, targets_BT: jax.Array, terms: LossTerms) -> jax.Array:
    """`token_losses(logits_BTV, targets_BT)` with the gradient of the objective of `terms`."""
    losses_BT = token_losses(logits_BTV, targets_BT)
    if terms == PLAIN:
        return losses_BT
    return follow(losses_BT, token_losses(logits_BTV, targets_BT, terms))


def in_chunks(
    function: Callable[[jax.Array, jax.Array], Any],
    x_BTD: jax.Array,
    targets_BT: jax.Array,
    chunk: int,
) -> Any:
    """`function(x_BTD, targets_BT)`, a tree of `[B, T]`, by `chunk` positions; 0 takes all at once.

    The backward pass computes the logits of each chunk again, so that those of one exist at any
    time.
    """
    B, T = targets_BT.shape

    if not chunk or chunk >= T:
        return function(x_BTD, targets_BT)

    @jax.checkpoint
    def one(part):
        return function(*part)

    x_NBCD = jnp.moveaxis(x_BTD.reshape(B, T // chunk, chunk, -1), 1, 0)
    targets_NBC = jnp.moveaxis(targets_BT.reshape(B, T // chunk, chunk), 1, 0)
    chunks = jax.lax.map(one, (x_NBCD, targets_NBC))
    return jax.tree.map(lambda y_NBC: jnp.moveaxis(y_NBC, 0, 1).reshape(B, T), chunks)


def pick_chunk(
    choice: int | str | None, *, vocab_size: int, seq_len: int, sequence_shards: int = 1
) -> int:
    """Resolve config.model.loss_chunk: positions of a chunk, 0 for all at once.

    None takes all, "auto" chunks of at most CHUNK if the vocabulary is LARGE and positions are not
    split over devices. Raises UserError if a chunk does not divide the context or positions are
    split.
    """
    if choice is None:
        return 0
    if choice == "auto":
        whole = vocab_size < LARGE or sequence_shards > 1
        best = max(d for d in range(1, CHUNK + 1) if seq_len % d == 0)
        return 0 if whole or best < SMALL else best
    assert isinstance(choice, int)
    if sequence_shards > 1:
        raise UserError(
            f"config.model.loss_chunk={choice} cuts positions that "
            f"config.parallel.sequence={sequence_shards} splits already; choose None or auto"
        )
    if choice < 1 or seq_len % choice:
        near = min(
            (d for d in range(1, seq_len + 1) if seq_len % d == 0), key=lambda d: abs(d - choice)
        )
        raise UserError(
            f"config.model.loss_chunk={choice} does not divide config.data.seq_len={seq_len}; "
            f"the nearest that does is {near}, None takes all positions at once, auto chooses"
        )
    return choice
