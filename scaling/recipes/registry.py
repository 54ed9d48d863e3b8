"""Find the recipe that a study names: a preset, `power`, or a fitted one, ours or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scaling.config.check_model import LADDERS
from scaling.recipes import fitted
from scaling.recipes.presets import PRESETS, power
from scaling.recipes.recipe import Recipe
from scaling.utils.errors import UserError, shown
from scaling.utils.suggest import nearest

FITTED = "fitted:"
# recipe.json of our own studies, beside this file; each has its stem as name
STUDIES = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.json"))}
NAMES = ("power", *PRESETS, *STUDIES)


def of_sweep(sweep: Any) -> Recipe | None:
    """Return the recipe that a config's `sweep` section applies to its runs, None without one.

    lr_coefficient alone stands for `power` in sweeps over a ladder of sizes. A single run has no
    recipe. Raises UserError at an unknown name, naming the nearest, and as `fitted.read` does.
    """
    name = sweep.recipe
    if name is None and sweep.lr_coefficient is not None and sweep.kind in LADDERS:
        name = "power"
    if name is None or sweep.kind == "none":
        return None
    if name == "power":
        return power(sweep.lr_coefficient, sweep.lr_n_exponent)
    if name == FITTED:
        raise UserError(f"config.sweep.recipe={FITTED} names no file; give {FITTED}recipe.json")
    if name.startswith(FITTED):
        return fitted.read(Path(name.removeprefix(FITTED)))
    if name in PRESETS:
        return PRESETS[name]
    if name in STUDIES:
        return fitted.read(STUDIES[name], name)
    near = nearest(name, (*NAMES, FITTED))
    hint = f"did you mean {near}?" if near else f"choose one of {', '.join(NAMES)}, {FITTED}FILE"
    raise UserError(f"config.sweep.recipe={shown(name)}: no such recipe; {hint}")
