"""Plan the runs of a round that `scaling design --out` proposed, one per row of its design.csv."""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from scaling.config import load as config_lib
from scaling.config.key import LARGEST
from scaling.sweep.plan.ladder import Rung, rung_of_width
from scaling.sweep.plan.request import RunRequest
from scaling.sweep.plan.run_recipe import RunRecipe
from scaling.utils import number_text, table_file
from scaling.utils.errors import UserError

MAX_SIZE_RATIO = 2.0  # a nearest size this many times off is refused


def design_runs(config: ConfigDict) -> Iterator[RunRequest]:
    """Yield each row at the nearest width the ladder allows, in whole steps that keep N D.

    Sizes count as in a plan, without embeddings and head. A repeated row takes further seeds. Each
    run's note states its distance from its row. Raises UserError naming the file and row if a row
    cannot be read or built.
    """
    path, recipe = Path(config.sweep.design_file), RunRecipe(config)
    copies = Counter[tuple[int, int]]()
    for row, n_params, tokens in _rows(path):
        try:
            rung = nearest_rung(config, n_params)
        except UserError as error:
            raise UserError(f"{path}: {row}: n_params={n_params:g}: {error}") from error
        ratio = rung.n_params / n_params
        if not 1 / MAX_SIZE_RATIO <= ratio <= MAX_SIZE_RATIO:
            raise UserError(
                f"{path}: {row}: n_params={n_params:g}, but the nearest size has "
                f"{rung.n_params:,} parameters (width {rung.width}); write n_params in single "
                "parameters, or limit the proposal (`scaling design --min_flops, "
                "--tokens_per_param`)"
            )
        values = {**rung.values(), **recipe.batch_values(rung.values(), tokens / ratio)}
        batch = values.get("train.batch_size", config.train.batch_size)
        per_step = batch * config_lib.targets_per_row(config)
        steps = round(tokens / ratio / per_step)
        if steps < 1:
            raise UserError(
                f"{path}: {row}: tokens={tokens:g} is less than one step of {per_step} "
                "tokens; write tokens in single tokens, or lower config.train.batch_size"
            )
        if steps * per_step > LARGEST:
            raise UserError(f"{path}: {row}: tokens={tokens:g} is more than a run may have")
        yield RunRequest(
            {**values, "train.tokens": steps * per_step},
            note=f"requested {n_params:.4g} parameters ({ratio - 1:+.1%}), {tokens:.4g} tokens "
            f"({steps * per_step / tokens - 1:+.1%})",
            copy=copies[rung.width, steps],
        )
        copies[rung.width, steps] += 1


def nearest_rung(config: ConfigDict, n_params: float) -> Rung:
    """Return the rung nearest in log n_params among all multiples of sweep.width_multiple."""

    def rung(k: int) -> Rung:
        return rung_of_width(config, k * config.sweep.width_multiple)

    high = 1
    while rung(high).n_params < n_params:
        high *= 2
    above = 1 + bisect.bisect_left(range(1, high), n_params, key=lambda k: rung(k).n_params)
    candidates = [rung(k) for k in (above - 1, above) if k >= 1]
    return min(candidates, key=lambda r: abs(math.log(r.n_params / n_params)))


def _rows(path: Path) -> Iterator[tuple[str, float, float]]:
    """Yield (name of the row, n_params, tokens); the header is row 1."""
    if not path.is_file():
        raise UserError(
            f"config.sweep.design_file={path}: no such file; write one with `scaling design --out`"
        )
    file = table_file.read(path)
    if file.left_out:
        raise UserError(f"{path}: {file.left_out[0]}")
    for row in file.rows:
        counts = []
        for column in ("n_params", "tokens"):
            if column not in file.header:
                raise UserError(f"{path}: {row.name}: column {column} is missing")
            cell = row.cells[column]
            try:
                value, _ = number_text.value(cell, number_text.Style(), number_text.COUNT)
            except ValueError:
                value = math.nan
            if not 0 < value < math.inf:
                text = number_text.cut(cell)
                raise UserError(f"{path}: {row.name}: {column}={text} is not a count")
            counts.append(value)
        yield row.name, counts[0], counts[1]
