"""Compare runs proposed by `scaling.laws.design` with an IsoFLOP grid on synthetic surfaces.

    python -m benchmarks.design [--surfaces=200] [--noise=0.003] [--budgets=6] [--sizes=8]
        [--rounds=1] [--wrong=30] [--careful] [--out=FILE]

The grid costs the same as the proposed runs. It is centred on the surface's true optimum at budgets
half a decade apart, with sizes over one decade: the best possible grid. The designer knows only
`Prior.published`. With --rounds=2 it also knows the fit of a first round, which takes 40% of the
runs for 25% of the FLOPs. Both have equal numbers of runs and equal totals, and no run is dearer
than the grid's dearest. Both are fitted by `laws.fit` with its defaults. The results are medians
over surfaces of the ratio of the widths of the 90% intervals of the law, at 10 and 100 times the
dearest budget. "coverage" is how often the designer's interval holds the truth.

For wrong forms the surfaces follow another law (see WORLDS), and both are still fitted by
chinchilla. The results are the root mean square errors of log loss. --careful keeps the proposed
runs to 5..100 tokens per parameter and to a three-hundredth of the dearest. That predicts less
narrowly, and less wrongly if the form is wrong. With --rounds=2 the designer starts wide and
becomes careful if the first round shows lack of fit.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from benchmarks import common
from scaling.laws import api as laws
from scaling.laws import design
from scaling.laws.table import make_table
from scaling.utils import machine, notices

DEAREST = 3e20
TARGETS = (10, 100)
FIRST = (0.4, 0.25)  # the first round's share of the runs and of the FLOPs


def chinchilla(p, n, d):
    a, b, e, alpha, beta = p
    return np.exp(e) + np.exp(a) * n**-alpha + np.exp(b) * d**-beta


def kaplan(p, n, d):
    """Return a loss without a floor and with a quarter of the exponents, near Kaplan's."""
    _, _, _, alpha, beta = p
    x_n, x_d = (n / 1e9) ** -(alpha / 4), (d / 2e10) ** -(beta / 4)
    return 2.4 * (0.5 * x_n ** (4 / beta) + 0.5 * x_d ** (4 / beta)) ** (beta / 4)


def joined(q):
    """Return the law E + ((A N^-alpha)^q + (B D^-beta)^q)^(1/q); q = 1 is chinchilla.

    Reference: Rosenfeld et al. 2020.
    """

    def law(p, n, d):
        a, b, e, alpha, beta = p
        size, data = np.exp(a) * n**-alpha, np.exp(b) * d**-beta
        return np.exp(e) + (size**q + data**q) ** (1 / q)

    return law


def bent(p, n, d):
    """Return a loss whose exponents fall by a fifth around 1e8 parameters and 2e9 tokens.

    Reference: Caballero et al. 2023.
    """
    a, b, e, alpha, beta = p
    size = np.exp(a) * n**-alpha * (1 + (n / 1e8) ** 2) ** (0.1 * alpha)
    data = np.exp(b) * d**-beta * (1 + (d / 2e9) ** 2) ** (0.1 * beta)
    return np.exp(e) + size + data


def cold_start(p, n, d):
    """Return a loss with small runs worse than the law: 3% at 1e17 FLOPs, falling as C^-1/2."""
    return chinchilla(p, n, d) * (1 + 0.03 * (1e17 / (6 * n * d)) ** 0.5)


def lopsided(p, n, d):
    """Return a loss with runs far from 20 tokens per parameter worse than the law.

    They are 0.5% worse at a factor of 10 and 4% at 100.
    """
    return chinchilla(p, n, d) * (1 + 0.005 * np.abs(np.log10(d / n / 20)) ** 3)


WORLDS = {
    "kaplan": kaplan,
    "joined .7": joined(0.7),
    "joined 1.4": joined(1.4),
    "bent": bent,
    "cold start": cold_start,
    "lopsided": lopsided,
}


def optimum(law, p, flops) -> tuple[float, float]:
    """Return N* and D* on a fine grid."""
    n = np.geomspace(1e5, 1e13, 20_000)
    best = n[np.argmin(law(p, n, flops / (6 * n)))]
    return best, flops / (6 * best)


def grid(law, p, budgets: int, sizes: int):
    flops = np.repeat(DEAREST / 10 ** (0.5 * np.arange(budgets)), sizes)
    centre = np.repeat([optimum(law, p, c)[0] for c in flops[::sizes]], sizes)
    n = centre * 10 ** np.tile(np.linspace(-0.5, 0.5, sizes), budgets)
    return n, flops / (6 * n)


def measured(law, p, n, d, noise: float, rng):
    loss = law(p, n, d) * np.exp(noise * rng.standard_normal(len(n)))
    return make_table(n_params=n, tokens=d, flops=6 * n * d, loss=loss)


def joint(first, second):
    return make_table(
        **{
            c: np.concatenate([first[c], second[c]])
            for c in ("n_params", "tokens", "flops", "loss")
        }
    )


def designed(law, p, total: float, runs: int, rounds: int, careful: bool, noise: float, rng, seed):
    """Return the table of the designer's runs."""
    targets = [design.Target(DEAREST * t) for t in TARGETS]
    prior = design.Prior.published(flops=DEAREST / 3, seed=seed)
    shares = [(1.0, 1.0)] if rounds == 1 else [FIRST, (1.0, 1.0)]
    table, made = None, []
    for runs_share, flops_share in shares:
        spent, used = spent_on(made), sum(len(t) for t in made)
        share, ratios = design.CAREFUL if careful else design.WIDE
        plan = design.propose(
            prior,
            targets,
            total_flops=flops_share * total - spent,
            max_runs=round(runs_share * runs) - used,
            max_flops=min(DEAREST, flops_share * total / 4),
            min_flops=DEAREST / share,
            tokens_per_param=ratios,
            done=table,
        )
        new = measured(law, p, plan.n_params, plan.tokens, noise, rng)
        made.append(new)
        table = joint(table, new) if table else new
        if runs_share < 1:
            first = laws.fit(table, bootstrap=100)
            if any(w.kind == notices.LACK_OF_FIT for w in first.warnings):
                careful = True  # the form is wrong over so wide a range: continue in a narrow one
                table = table.rows(design.inside(table, DEAREST))
            else:
                prior = design.Prior.of(first)
    assert spent_on(made) <= total * (1 + 1e-9) and sum(len(t) for t in made) <= runs
    return table.rows(design.inside(table, DEAREST)) if careful else table


def spent_on(tables) -> float:
    return float(sum(t.flops.sum() for t in tables))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--surfaces", type=int, default=200)
    parser.add_argument("--wrong", type=int, default=30, help="surfaces per wrong form")
    parser.add_argument("--noise", type=float, default=0.003)
    parser.add_argument("--budgets", type=int, default=6)
    parser.add_argument("--sizes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1, choices=(1, 2))
    parser.add_argument("--careful", action="store_true")
    parser.add_argument("--out", default="results/bench/design.json")
    args = parser.parse_args(argv)
    machine.enable_compilation_cache()
    rng = np.random.default_rng(0)
    truths = np.concatenate([design.Prior.published(seed=1000 + s).params_SP for s in range(20)])

    def compare(law, p, seed):
        """Return interval widths and log errors `[2, T]` (grid, design), and the design's hits."""
        n, d = grid(law, p, args.budgets, args.sizes)
        total = float((6 * n * d).sum())
        tables = (
            measured(law, p, n, d, args.noise, rng),
            designed(law, p, total, len(n), args.rounds, args.careful, args.noise, rng, seed),
        )
        widths, errors, inside = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2)
        for i, table in enumerate(tables):
            fit = laws.fit(table, bootstrap=200)
            for j, times in enumerate(TARGETS):
                n_opt, tokens_opt = optimum(law, p, DEAREST * times)
                expected = law(p, n_opt, tokens_opt)
                interval = fit.mean_interval(n_opt, tokens_opt)
                widths[i, j] = np.log(interval.high / interval.low)
                errors[i, j] = np.log(interval.value / expected)
                inside[j] = interval.low <= expected <= interval.high
        return widths, errors, inside

    outcomes = [compare(chinchilla, p, s) for s, p in enumerate(truths[: args.surfaces])]
    widths, errors, inside = (np.stack(x) for x in zip(*outcomes, strict=True))
    report = {"surfaces": args.surfaces, "runs": args.budgets * args.sizes, "noise": args.noise}
    report |= {"rounds": args.rounds, "careful": args.careful}
    for j, times in enumerate(TARGETS):
        rms = np.sqrt(np.mean(errors[:, :, j] ** 2, axis=0))
        report[f"width ratio at {times}x"] = float(np.median(widths[:, 0, j] / widths[:, 1, j]))
        report[f"rms error, grid, design at {times}x"] = rms.round(5).tolist()
        report[f"coverage at {times}x"] = float(inside[:, j].mean())
    for name, law in WORLDS.items() if args.wrong else ():
        wrong = [compare(law, p, s)[1] for s, p in enumerate(truths[: args.wrong])]
        rms = np.sqrt(np.mean(np.square(wrong), axis=0))  # [2, T]
        report[f"wrong form {name}"] = {
            f"{t}x": {"grid": round(float(rms[0, j]), 5), "design": round(float(rms[1, j]), 5)}
            for j, t in enumerate(TARGETS)
        }
    common.show_and_write(args.out, report)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
