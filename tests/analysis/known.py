"""Rows of the table by construction: losses of a known law, all else a plain finished run."""

from __future__ import annotations

import dataclasses
import typing

from scaling.results import RunResult

DEFAULTS = {int: 1, float: 0.0, str: ""}


def row(number: int, **values) -> RunResult:
    """A finished run of a sweep; `values` replace what a plain run has."""
    given = {}
    for name, kind in typing.get_type_hints(RunResult).items():
        optional = [t for t in typing.get_args(kind) if t is not type(None)]
        if name == "metrics":
            continue
        given[name] = DEFAULTS[optional[0] if optional else kind]
    plain = {
        "run_id": f"run-{number}", "status": "done", "role": "sweep", "n_params": 10_000,
        "n_params_active": 10_000, "n_params_with_head": 12_000, "n_params_total": 15_000,
        "tokens": 1_000_000,
        "unique_tokens": 10_000_000, "epochs": 0.1, "flops_exact": 6e10, "lr": 0.01,
        "warmup_tokens": 50_000,
        "decay_tokens": 950_000, "schedule": "cosine", "batch_tokens": 1024, "weight_decay": 0.1,
        "seed": 0,
        "seq_len": 128, "vocab_size": 256, "loss": 2.0, "loss_se": 0.004, "eval_tokens": 65_536,
    }  # fmt: skip
    result = RunResult(**given | plain | values)
    if "flops_exact" not in values:
        flops = 6.0 * result.n_params * result.tokens
        result = dataclasses.replace(result, flops_exact=flops)
    if "epochs" not in values:
        result = dataclasses.replace(result, epochs=result.tokens / result.unique_tokens)
    return result
