"""Define forms of tuned hyperparameters as power products: lr*(N, D), batch*(D), lr*(C).

They are linear in the logs, so one start is enough.

Shapes: N rows, F inputs, R starts, P = 1 + F parameters.
"""

from __future__ import annotations

import functools

import numpy as np

from scaling.laws.forms.base import Form
from scaling.utils.errors import UserError

SYMBOLS = {"n_params": ("N", "p"), "tokens": ("D", "q"), "flops": ("C", "p")}
INPUTS = (("n_params", "tokens"), ("n_params",), ("tokens",), ("flops",))
SOURCES = {
    "lr": "Li et al. 2025 (Step Law) in N and D; DeepSeek-AI 2024 in C; Kaplan et al. 2020 in N",
    "batch": "Li et al. 2025 (Step Law) in D; DeepSeek-AI 2024 in C; McCandlish et al. 2018",
}


def product_log(params_P, logs_NF):
    """Return `[N]` logs of the hyperparameter from (log k, exponents) and log inputs `[N, F]`."""
    return params_P[0] + logs_NF @ params_P[1:]


def product_starts(logs_NF, target_N) -> np.ndarray:
    """Return `[1, P]`, the least-squares solution; centred logs avoid a loss of digits."""
    centre_F = logs_NF.mean(axis=0)
    design = np.column_stack([np.ones(len(target_N)), logs_NF - centre_F])
    offset, *exponents = np.linalg.lstsq(design, target_N, rcond=None)[0]
    return np.array([(offset - centre_F @ exponents, *exponents)])


@functools.cache
def power_product(target: str, of: tuple[str, ...] = INPUTS[0]) -> Form:
    """Return the form `target` = k N^p D^q, or k times a power of one of N, D and C.

    `of` names its columns of the table. C is proportional to N D, so it is allowed only alone.
    Raises UserError for other targets than lr and batch, and for other inputs.
    """
    if target not in SOURCES:
        raise UserError(
            f"{target!r} is no hyperparameter with a law; choose from {', '.join(SOURCES)}"
        )
    if of not in INPUTS:
        raise UserError(
            f"--of={','.join(of)}: choose n_params,tokens or one of n_params, tokens, flops"
        )
    letters, names = zip(*(SYMBOLS[name] for name in of), strict=True)
    terms = " ".join(f"{x}^{e}" for x, e in zip(letters, names, strict=True))
    return Form(
        name=f"{target}_law",
        equation=f"{target}({', '.join(letters)}) = k {terms}",
        source=SOURCES[target],
        domain="one recipe (optimizer, schedule, weight decay) at tuned optima inside their grids",
        inputs=of,
        parameters=("k", *names),
        stored_as_logs=("k",),
        log_predict=product_log,
        starts=product_starts,
        target=target,
        distinct=2,
        judged=names,
        product=True,
    )


LR_LAW = power_product("lr")
BATCH_LAW = power_product("batch")
