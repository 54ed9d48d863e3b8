"""The flags of the commands that fit tables from elsewhere."""

from __future__ import annotations


def fit(sub) -> None:
    """Flags of `fit` on a CSV from elsewhere."""
    sub.add_argument(
        "--form",
        default="chinchilla",
        help="combined (backtest-weighted, needs --at), isoflop, lr_optimum or batch_optimum (tuned in groups of runs), "
        "or a law: chinchilla, chinchilla_tied, kaplan, over_training, data_constrained, power, power_offset, "
        "shifted_power, m4, broken, loss_to_error, lr_law, batch_law (of optima)",
    )
    sub.add_argument(
        "--of",
        default="n_params,tokens",
        metavar="NAME,...",
        help="what lr or batch is a law of: n_params,tokens or one of n_params, tokens, flops",
    )
    sub.add_argument("--method", default="parabola", help="profile of isoflop: parabola or akima")
    sub.add_argument(
        "--at",
        default="",
        metavar="N:D,...",
        help="predict new runs of N parameters and D tokens, or X,... for a law of x",
    )
    _table(sub)


def gain(sub) -> None:
    """Flags of `gain`: two families of runs in two CSVs, or in one with a column that names them."""
    sub.add_argument("tables", nargs="+", metavar="CSV", help="BASELINE.csv NEW.csv, or one CSV")
    sub.add_argument("--family", default="", metavar="COLUMN", help="column that names families")
    sub.add_argument("--baseline", default="", metavar="VALUE", help="the baseline in --family")
    sub.add_argument("--new", default="", metavar="VALUE", help="the other, if there are several")
    sub.add_argument(
        "--form",
        default="chinchilla",
        help="law of either family: chinchilla, chinchilla_tied, kaplan, over_training, isoflop, or "
        "power_offset, power in --x=FLOPS where rows are compute-optimal",
    )
    sub.add_argument("--method", default="parabola", help="profile of isoflop: parabola or akima")
    sub.add_argument(
        "--at", default="", metavar="C,...", help="computes; else the range that both have measured"
    )
    _table(sub)


def _table(sub) -> None:
    """Columns, objective and bootstrap: what every fit to a CSV takes."""
    columns = {
        "n_params": "model sizes",
        "tokens": "training tokens",
        "flops": "training FLOPs",
        "budget": "IsoFLOP groups; without it rows of equal FLOPs are grouped",
        "unique_tokens": "unique training tokens (data_constrained)",
        "tokens_per_param": "tokens per parameter (over_training)",
        "loss_se": "standard errors of the losses, which then weigh the rows",
        "seed": "seeds, for --blocks=seed",
        "x": "the one input of power, power_offset, shifted_power, m4, broken",
        "error": "downstream error (loss_to_error)",
        "lr": "learning rates (lr_optimum, lr_law)",
        "batch": "batch sizes, tokens per step (batch_optimum, batch_law)",
    }
    for name, what in columns.items():
        sub.add_argument(f"--{name}", default="", metavar="COLUMN", help=f"column of {what}")
    sub.add_argument("--loss", default="loss", metavar="COLUMN", help="column of losses")
    sub.add_argument("--where", default="", metavar="COLUMN=VALUE,...", help="keep only these rows")
    sub.add_argument(
        "--drop_highest", type=int, default=0, metavar="K", help="leave out the K highest losses"
    )
    sub.add_argument(
        "--drop_above_flops", type=float, default=0.0, metavar="C", help="leave out dearer runs"
    )
    sub.add_argument(
        "--objective",
        default="",
        help="huber (the default, but for forecasts of curves), least_squares, l1 or likelihood",
    )
    sub.add_argument(
        "--huber_delta", type=float, default=0.0, help="threshold; 0 scales it to the residuals"
    )
    sub.add_argument(
        "--quantile", type=float, default=0.5, help="below 0.5: the best achievable loss"
    )
    sub.add_argument("--linear", action="store_true", help="residuals of the loss, not its log")
    sub.add_argument(
        "--fixed", default="", metavar="NAME=VALUE,...", help="hold parameters at these values"
    )
    sub.add_argument(
        "--blocks", default="", metavar="NAME", help="resample blocks: seed or n_params"
    )
    sub.add_argument("--bootstrap", type=int, default=500, help="resamples")
    sub.add_argument("--confidence", type=float, default=0.9, help="coverage of the intervals")
    sub.add_argument("--out", default="", help="folder for the law's JSON and pictures")


def conventions(sub) -> None:
    """Flags of `conventions`; all but the method belong to a CSV from elsewhere."""
    columns = {
        "n_params": "model sizes, one column or several; without it n_params",
        "tokens": "training tokens",
        "flops": "training FLOPs, one column or several; without it 6 N D",
        "budget": "IsoFLOP groups; without it rows of equal FLOPs are grouped",
        "loss": "losses; without it loss",
        "by": "what splits the rows: one comparison per combination of their cells",
    }
    for name, what in columns.items():
        several = ",..." if name in ("n_params", "flops", "by") else ""
        sub.add_argument(f"--{name}", default="", metavar=f"COLUMN{several}", help=what)
    sub.add_argument("--method", default="parabola", help="profiles: parabola or akima")
    sub.add_argument("--bootstrap", type=int, help="resamples (500)")
    sub.add_argument("--confidence", type=float, help="coverage of the intervals (0.9)")
    sub.add_argument("--out", default="", help="folder for conventions.json, .csv, .svg and .png")
