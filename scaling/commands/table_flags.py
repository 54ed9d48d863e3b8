"""The flags of the commands that have more than a config and a workdir."""

from __future__ import annotations

from scaling.utils.errors import UserError


def check(args) -> None:
    """Raises UserError where a number lies outside its range, before anything is loaded."""
    bootstrap, confidence = getattr(args, "bootstrap", None), getattr(args, "confidence", None)
    if bootstrap is not None and bootstrap < 0:
        raise UserError(f"--bootstrap={bootstrap}; must be 0 or more resamples")
    if confidence is not None and not 0 < confidence < 1:
        raise UserError(f"--confidence={confidence:g}; must lie between 0 and 1, e.g. 0.9")
    traced_dispatches(args)


COLUMNS = {
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


def fit(sub) -> None:
    """Flags of `fit` on a CSV from elsewhere."""
    sub.add_argument(
        "--form",
        default="chinchilla",
        help="combined (backtest-weighted, needs --at), isoflop, varpro, lr_optimum or batch_optimum (tuned in groups of runs), "
        "or a law: chinchilla, chinchilla_tied, kaplan, over_training, data_constrained, data_constrained_one_size, level, "
        "power, power_offset, shifted_power, m4, broken, loss_to_error, lr_law, batch_law (of optima)",
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


def design(sub) -> None:
    """Flags of `design`: what is allowed, what is to be predicted, and the runs that are there already."""
    sub.add_argument(
        "table",
        nargs="?",
        default="",
        metavar="CSV",
        help="the runs of earlier rounds; without them published laws are the start",
    )
    sub.add_argument(
        "--forms",
        default="",
        metavar="NAME,...",
        help="laws to fit to the CSV and to be robust over: chinchilla (the default), chinchilla_tied, kaplan",
    )
    sub.add_argument(
        "--total_flops", default="", metavar="C", help="what the new runs may cost together"
    )
    sub.add_argument("--max_runs", default="", metavar="R", help="how many there may be")
    sub.add_argument("--max_flops", default="", metavar="C", help="what one may cost at most")
    sub.add_argument(
        "--min_flops",
        default="",
        metavar="C",
        help="and at least; without it max_flops / 3000, with --careful / 300",
    )
    sub.add_argument(
        "--tokens_per_param",
        dest="ratios",
        default="",
        metavar="LOW:HIGH",
        help="range of D / N; without it 0.5:2000, with --careful 5:100",
    )
    sub.add_argument(
        "--careful",
        action="store_true",
        help="narrower limits: predicts less narrowly, and less wrongly where the form is wrong",
    )
    sub.add_argument(
        "--at", default="", metavar="C,...", help="computes whose optimum is to be predicted"
    )
    sub.add_argument(
        "--quantity", default="loss", help="what of it: loss, or n_opt, the optimal size"
    )
    _columns(sub, ("n_params", "tokens", "flops", "loss_se", "seed"))
    _rows(sub)
    _objective(sub)
    sub.add_argument("--bootstrap", type=int, default=100, help="resamples of a law")
    sub.add_argument("--out", default="", help="folder for design.json, .csv and the picture")
    sub.set_defaults(fixed="", confidence=0.9)


def _table(sub) -> None:
    """Columns, objective and bootstrap: what every fit to a CSV takes."""
    _columns(sub, COLUMNS)
    _rows(sub)
    _objective(sub)
    sub.add_argument(
        "--fixed", default="", metavar="NAME=VALUE,...", help="hold parameters at these values"
    )
    sub.add_argument("--bootstrap", type=int, default=500, help="resamples")
    sub.add_argument("--confidence", type=float, default=0.9, help="coverage of the intervals")
    sub.add_argument("--out", default="", help="folder for the law's JSON and pictures")


def _columns(sub, names) -> None:
    """Flags of these columns and of the loss; the other columns have none and stay empty."""
    for name in names:
        sub.add_argument(
            f"--{name}", default="", metavar="COLUMN", help=f"column of {COLUMNS[name]}"
        )
    sub.add_argument("--loss", default="loss", metavar="COLUMN", help="column of losses")
    sub.set_defaults(**{name: "" for name in COLUMNS if name not in names})


def _rows(sub) -> None:
    """Which rows count."""
    sub.add_argument("--where", default="", metavar="COLUMN=VALUE,...", help="keep only these rows")
    sub.add_argument(
        "--drop_highest", type=int, default=0, metavar="K", help="leave out the K highest losses"
    )
    sub.add_argument(
        "--drop_above_flops", type=float, default=0.0, metavar="C", help="leave out dearer runs"
    )


def _objective(sub) -> None:
    """How a law is fitted to them."""
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
        "--blocks", default="", metavar="NAME", help="resample blocks: seed or n_params"
    )


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


def status(sub) -> None:
    """Flags of `status`."""
    sub.add_argument(
        "--watch",
        nargs="?",
        const="2",
        metavar="SECONDS",
        help="look again every so many seconds (2) until nothing is left to train; Ctrl-C ends it",
    )
    sub.add_argument("--all", action="store_true", help="every run, in the plan's order")
    sub.add_argument("--json", action="store_true", help="as JSON; with --watch one line per look")
    sub.add_argument(
        "--tensorboard",
        action="store_true",
        help="write the losses of all runs and their hyperparameters for `tensorboard --logdir WORKDIR`",
    )


def budget(sub) -> None:
    """The bound that `plan`, `sweep` and `curves` take."""
    sub.add_argument(
        "--budget",
        default="",
        metavar="AMOUNT",
        help="refuse if what is left to train costs more: 1e15 (FLOPs), 90min, 2h, 3d (one worker's time, "
        "measured first) or 20usd (at config.launch.price_per_device_hour)",
    )


def sweep(sub) -> None:
    """Flags of `sweep`."""
    sub.add_argument(
        "--print_commands",
        action="store_true",
        help="train nothing; print the command lines of workers for TPU VMs and other machines",
    )


def train(sub) -> None:
    """Flags of `train` alone."""
    sub.add_argument(
        "--profile",
        nargs="?",
        const="3",
        default="",
        metavar="N",
        help="trace N steady dispatches (3) into the run's folder, for XProf and TensorBoard's profile tab",
    )


def traced_dispatches(args) -> int:
    """What --profile says, 0 without it. Raises UserError."""
    asked = getattr(args, "profile", "")
    if asked and not (asked.isdecimal() and int(asked)):
        raise UserError(f"--profile={asked}; must be a whole number of dispatches, e.g. 3")
    return int(asked or 0)


def processes(sub) -> None:
    """Flags of what several processes do together: `train`, `sweep`, `work`."""
    sub.add_argument(
        "--coordinator",
        default="",
        metavar="HOST:PORT",
        help="several processes train each run together: where process 0 listens, the same on all; without "
        "these three flags by $SCALING_COORDINATOR, $SCALING_PROCESSES, $SCALING_PROCESS_ID, or as tasks "
        "of one srun",
    )
    sub.add_argument(
        "--processes", default="", metavar="N", help="how many there are; 1 works alone under srun"
    )
    sub.add_argument("--process", default="", metavar="K", help="which one this is, from 0")


def place(args):
    """The process's place among several, None where it is alone. Raises UserError."""
    from scaling.parallel import multiprocess

    return multiprocess.find(args.coordinator, args.processes, args.process)
