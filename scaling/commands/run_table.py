"""Tables of finished runs, for `train`, `sweep` and `report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scaling import results
from scaling.commands.output import Output, Table
from scaling.config import field_traits
from scaling.utils import precision

OPTIONAL = ("seed", "width", "depth", "train_loss", "tokens_per_second", "wall_time")
FORMATS = {"lr": ".2e", "loss": ".4f", "loss_se": ".4f", "mfu": ".1%"}


def row(result: results.RunResult) -> dict[str, Any]:
    """Return the columns of a run that a person looks at first."""
    names = (
        "run_id", "status", "width", "depth", "n_params", "tokens", "flops_exact", "lr", "seed",
        "loss", "loss_se", "train_loss", "tokens_per_second", "wall_time",
    )  # fmt: skip
    return {name: getattr(result, name) for name in names}


def in_words(result: results.RunResult) -> str:
    """Return a finished run's result as one line."""
    assert result.loss is not None, "a finished run has a loss"
    target = field_traits.UNITS[result.field].removesuffix("s")
    bits, accuracy = result.bits_per_byte, result.metrics.get("accuracy")
    per_byte, share = "", ""
    if bits is not None:  # the loss in another unit
        error = result.loss_se and result.loss_se * bits / result.loss
        per_byte = f"{precision.rounded(bits, error)} bits per byte, "
    if accuracy is not None:
        error = result.metrics.get("accuracy_se")
        share = f"accuracy {precision.rounded(100 * accuracy, error and 100 * error)} %, "
    mfu = "" if result.mfu is None else f", MFU {result.mfu:.0%}"
    return (
        f"{result.run_id}: loss {precision.with_error(result.loss, result.loss_se)} nats/{target}, "
        f"{per_byte}{share}{result.flops_exact:.3g} FLOPs{mfu}"
    )


def of_run(result: results.RunResult, notes: Sequence[str] = ()) -> Output:
    """Return one run that has ended. As text it is a line if it has a loss, else its columns."""
    table = Table("Run", [row(result)], OPTIONAL, FORMATS)
    text = [in_words(result), *notes] if result.status == "done" else None
    return Output(results.to_json(result), [table], notes, text)


def of_runs(runs: Sequence[results.RunResult], text: Sequence[str] | None = None) -> Output:
    """Return several runs. `text` replaces their table in text."""
    content = {"runs": [results.to_json(r) for r in runs]}
    return Output(content, [Table("Runs", [row(r) for r in runs], OPTIONAL, FORMATS)], (), text)
