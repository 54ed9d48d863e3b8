"""Steps of a run, of its warm-up, decay and merge, from the config's durations in tokens."""

from __future__ import annotations

import itertools

from ml_collections import ConfigDict

from scaling.config.field_traits import SEQUENCES
from scaling.utils.errors import UserError


def targets_per_row(c: ConfigDict) -> int:
    """Return the targets of a row: the positions of a sequence, or the label of an example."""
    return c.data.seq_len if c.data.field in SEQUENCES else 1


def held_out_rows(c: ConfigDict) -> int:
    """Return the rows of an evaluation: windows of text, else examples or users.

    A validation split may hold fewer.
    """
    return max(1, c.eval.tokens // (c.data.seq_len if c.data.field == "language" else 1))


def tokens_per_step(c: ConfigDict) -> int:
    """Return the tokens of an optimizer step, in the unit of the field, see scaling/fields/."""
    return c.train.batch_size * targets_per_row(c)


def schedule_steps(c: ConfigDict) -> dict[str, int]:
    """Return the steps of the whole run, of the warm-up and of the decay.

    Raises UserError if the run has no whole step or its parts do not fit.
    """
    per_step = tokens_per_step(c)
    total = round(c.train.tokens / per_step)
    if total < 1:
        raise UserError(
            f"config.train.tokens={c.train.tokens} is less than one step of {per_step} tokens; "
            "lower config.train.batch_size or raise the budget"
        )
    warmup_tokens = c.optim.warmup_tokens or c.optim.warmup_fraction * c.train.tokens
    warmup = round(warmup_tokens / per_step)
    decay = round(c.optim.decay_fraction * total) if c.optim.schedule == "wsd" else 0
    if warmup + decay > total:
        raise UserError(
            f"config.optim: warm-up ({warmup} steps) and decay ({decay}) are longer than the run "
            f"({total}); lower warmup_tokens or decay_fraction"
        )
    return {"total": total, "warmup": warmup, "decay": decay}


def merge_steps(c: ConfigDict) -> tuple[int, ...]:
    """Return the steps whose checkpoints are averaged at the end of a run, the last step included.

    They lie evenly over what would be the decay, all but the last on logged steps; () for no merge.
    Raises UserError if the decay holds too few logged steps, and as `schedule_steps` does.
    """
    steps, every = schedule_steps(c), c.train.log_every
    if c.optim.cooldown != "merge":
        return ()
    gaps, begin = c.optim.merge_checkpoints - 1, steps["total"] - steps["decay"]
    gap = steps["decay"] / max(1, gaps)
    merged = [*(round((begin + gap * i) / every) * every for i in range(gaps)), steps["total"]]
    if gaps < 1 or merged[0] < 1 or any(a >= b for a, b in itertools.pairwise(merged)):
        raise UserError(
            f"config.optim.merge_checkpoints={c.optim.merge_checkpoints}: give at least 2, and no "
            f"more than fit in the last {steps['decay']} of {steps['total']} steps "
            f"(config.optim.decay_fraction), logged every {every}"
        )
    return tuple(merged)
