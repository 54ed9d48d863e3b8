"""Stop the worse runs of a search early, by successive halving (Jamieson & Talwalkar 2016).

Runs of equal size, length, seed and data form a group. All are trained to the first rung, r
tokens, and paused. Of n runs, the n // eta of lowest held-out loss (at least one) continue to the
next rung, r eta tokens, and so on. The others end as "stopped". The loss at a rung is that of the
unfinished run: for WSD it may precede the decay, for cosine the learning rate is still high.

Workers need no server. A run's loss at a rung is in its `evals.jsonl` (on an object store also in
`halving/<group>-<rung>/<run_id>.json`). The decision of a rung is the file
`<workdir>/halving/<group>-<rung>.json`, created once by the first worker that sees all losses of
the rung. Runs that diverged or failed rank last.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import results
from scaling.config import hashing, keys
from scaling.sweep.shared.storage import is_remote, storage
from scaling.utils import files
from scaling.utils.errors import UserError

KINDS = ("grid", "random", "hyper")  # searches; a scaling sweep needs all of its runs
MAX_RUNG_ERROR = 0.1  # largest relative difference of a rung, in logged steps, from the request
EQUAL_KEYS = ("model.depth", "model.width", "train.tokens", "seed")  # with n_params, data and eval


@dataclass(frozen=True)
class Group:
    """Runs that are compared with each other, and the rungs of the comparison."""

    name: str
    runs: tuple[Any, ...]  # scaling.sweep.plan.planner.PlannedRun
    rungs: tuple[int, ...]  # tokens
    eta: int

    def step(self, run, rung: int) -> int:
        """Return the optimizer step at which a run of the group is paused for a rung."""
        every = run.values["train.log_every"]
        return max(1, round(self.rungs[rung] * run.steps / run.tokens / every)) * every

    def left(self, rung: int) -> int:
        """Return the number of runs that are trained to a rung, or beyond the last one."""
        count = len(self.runs)
        for _ in range(rung):
            count = max(1, count // self.eta)
        return count


@dataclass(frozen=True)
class HalvingDecision:
    """The next action of a run."""

    until: int = 0  # train to this step; 0 = to the end
    waits: bool = False  # until other runs reach its rung
    stopped: str = ""  # the reason to stop it ...
    at: int = 0  # ... at this step, that of its last rung
    rung: int = 0


def check(config, runs: Sequence) -> None:
    """Check the config's halving. Raises UserError if it is impossible or compares nothing."""
    if config.sweep.halving:
        groups(runs)


def groups(runs: Sequence) -> list[Group]:
    """Return the groups of at least two comparable runs; none if halving is off.

    Raises UserError if halving is on without a group, or a rung is far from every logged step.
    """
    comparable: dict[str, list] = {}
    for run in runs:
        if run.values["sweep.halving"]:
            comparable.setdefault(_key(run), []).append(run)
    halved = []
    for name, members in comparable.items():
        eta, rung = (members[0].values[f"sweep.{k}"] for k in ("halving", "halving_tokens"))
        rungs, count = [], len(members)
        while count > 1 and rung < min(r.tokens for r in members):
            rungs.append(rung)
            count, rung = max(1, count // eta), rung * eta
        if rungs:
            group = Group(name, tuple(members), tuple(rungs), eta)
            for run in members:
                _check_steps(group, run)
            halved.append(group)
    if comparable and not halved:
        values = runs[0].values
        raise UserError(
            f"config.sweep.halving={values['sweep.halving']}: no two runs of equal size, length "
            "and seed are longer than "
            f"config.sweep.halving_tokens={values['sweep.halving_tokens']}; set halving to 0, or "
            "lower halving_tokens"
        )
    return halved


def saving(runs: Sequence) -> tuple[float, float]:
    """Return (FLOPs trained if halving stops all runs that it can, FLOPs of the whole plan)."""
    trained = whole = sum(run.flops for run in runs)
    for group in groups(runs):
        run = group.runs[0]  # a token costs the same in all of them
        for rung, tokens in enumerate(group.rungs):
            stopped = group.left(rung) - group.left(rung + 1)
            trained -= stopped * run.flops * (1 - tokens / run.tokens)
    return trained, whole


def _key(run) -> str:
    """Return a key that is equal for runs whose losses at equal tokens are comparable."""
    stored = keys.encoded(run.values)
    values = [(k, v) for k, v in stored.items() if k.startswith(("data.", "eval."))]
    return hashing.digest(repr((run.n_params, [stored[k] for k in EQUAL_KEYS], values)), 12)


def _check_steps(group: Group, run) -> None:
    per_step = run.tokens // run.steps
    for rung, tokens in enumerate(group.rungs):
        step = group.step(run, rung)
        if step >= run.steps or abs(step * per_step / tokens - 1) > MAX_RUNG_ERROR:
            raise UserError(
                f"config.sweep.halving_tokens={group.rungs[0]}: the rung at {tokens} tokens is not "
                f"near a logged step of {run.run_id} ({run.values['train.log_every']} steps of "
                f"{per_step} tokens) before its end; raise it, or lower config.train.log_every"
            )


class Halving:
    """Read and make the decisions of one workdir. Without groups, runs are trained to the end."""

    def __init__(self, workdir: Path, runs: Sequence, shared: Path | str = ""):
        """`shared`: the folder or URL that all workers see, if that is not `workdir`."""
        self.workdir, self._shared = workdir, f"{shared or workdir}/halving"
        self._storage = storage(self._shared)
        self._group = {run.run_id: group for group in groups(runs) for run in group.runs}
        self._decisions: dict[str, dict[str, Any]] = {}
        self._pauses: dict[tuple[str, int], dict[str, Any]] = {}  # by run and rung

    def decide(self, run, failed: Callable[[str], bool]) -> HalvingDecision:
        """Return the next action of a run; decide its rung if all losses are known.

        `failed(run_id)` returns whether a run failed in this launch, so that no run waits for it.
        Raises UserError if a decision's file is damaged or cannot be written, OSError if the
        object store is unreachable.
        """
        group = self._group.get(run.run_id)
        if group is None:
            return HalvingDecision()
        members: list[str] = [r.run_id for r in group.runs]
        for rung in range(len(group.rungs)):
            step = group.step(run, rung)
            decision = self._read_decision(group, rung)
            if decision is None:
                if self._loss(group, rung, run) is None:
                    return HalvingDecision(until=step)
                decision = self._decide_rung(group, rung, members, failed)
            if decision is None:
                return HalvingDecision(waits=True)
            members = decision["kept"]
            if run.run_id not in members:
                return HalvingDecision(stopped=_reason(decision, run.run_id), at=step, rung=rung)
        return HalvingDecision()

    def row(
        self, untrained: results.RunResult, run, decision: HalvingDecision
    ) -> results.RunResult:
        """Return the row of a stopped run, from `untrained`, its row before training."""
        pause = self._pause(self._group[run.run_id], decision.rung, run)
        rows = self._rows(run.run_id, "metrics.jsonl")
        # without a pause it failed before the rung
        trained = decision.at if pause else rows[-1]["step"] if rows else 0
        return dataclasses.replace(
            untrained,
            status="stopped",
            reason=decision.stopped,
            train_loss=pause["train_loss"] if pause else None,
            flops_spent=run.flops * trained / run.steps,
            wall_time=pause["elapsed"] if pause else 0.0,
        )

    def _read_decision(self, group: Group, rung: int) -> dict[str, Any] | None:
        """Return a rung's decision, or None before it is made."""
        name = f"{group.name}-{rung}.json"
        if name not in self._decisions:
            content = self._storage.read(name)
            if content is None:
                return None
            with files.damage(f"{self._shared}/{name}"):
                decision = files.parse_object(content)
                files.check_numbers(decision, "tokens")
                files.check_numbers(decision["ranking"][0], "loss")
                for row in decision["ranking"]:
                    row["run_id"], row["why"]  # KeyError if missing
                    files.check_numbers({**row, "loss": row["loss"] or 0.0}, "loss")
                set(decision["kept"])
            self._decisions[name] = decision
        return self._decisions[name]

    def _decide_rung(
        self, group: Group, rung: int, members: list[str], failed: Callable[[str], bool]
    ) -> dict[str, Any] | None:
        """Return the decision of a rung, made by the first worker; None while a loss is missing."""
        runs = {run.run_id: run for run in group.runs}
        ranking = []
        for name in members:
            loss, reason = self._loss(group, rung, runs[name]), ""
            if loss is None:
                reason = _end_status(self.workdir / "runs" / name)
                if not reason and not failed(name):
                    return None
                reason = reason or "failed"
            ranking.append({"run_id": name, "loss": loss, "why": reason})
        ranking.sort(key=lambda r: (r["loss"] is None, r["loss"] or 0.0, r["run_id"]))
        good = sum(r["loss"] is not None for r in ranking)
        kept = [r["run_id"] for r in ranking[: min(good, max(1, len(ranking) // group.eta))]]
        content = {"tokens": group.rungs[rung], "eta": group.eta, "kept": kept, "ranking": ranking}
        try:
            sealed = files.json_bytes(content, seal=True)
            self._storage.create(f"{group.name}-{rung}.json", sealed)
        except OSError as error:
            if is_remote(self._shared):
                raise
            raise UserError(
                f"{self._shared}: no decision can be written there ({error}); make it writable, "
                "or free some space"
            ) from error
        return self._read_decision(group, rung)

    def _loss(self, group: Group, rung: int, run) -> float | None:
        """Return the held-out loss of a run at a rung, None if it has not reached the rung."""
        pause = self._pause(group, rung, run)
        return pause["loss"] if pause else None

    def _pause(self, group: Group, rung: int, run) -> dict[str, Any] | None:
        """Return `loss`, `train_loss` and `elapsed` seconds of a run at a rung, None before it."""
        name, step = run.run_id, group.step(run, rung)
        key = f"{group.name}-{rung}/{name}.json"
        if (name, rung) in self._pauses:
            return self._pauses[name, rung]
        row = next((r for r in self._rows(name, "evals.jsonl") if r["step"] == step), None)
        if row is not None and files.is_number(row.get("loss")):
            logged = [r["loss"] for r in self._rows(name, "metrics.jsonl") if r["step"] <= step]
            elapsed = row.get("elapsed")
            pause = {
                "loss": row["loss"],
                "train_loss": logged[-1] if logged else None,
                "elapsed": elapsed if files.is_number(elapsed) else 0.0,
            }
            if is_remote(self._shared):
                self._storage.replace(key, files.json_bytes(pause, seal=True))
        else:
            content = self._storage.read(key) if is_remote(self._shared) else None
            if content is None:
                return None
            with files.damage(f"{self._shared}/{key}"):
                pause = files.parse_object(content)
                files.check_numbers(pause, "loss", "elapsed")
        self._pauses[name, rung] = pause
        return pause

    def _rows(self, name: str, file: str) -> list[dict[str, Any]]:
        numbers = ("loss",) if file == "metrics.jsonl" else ()
        return files.read_lines(self.workdir / "runs" / name / file, "step", numbers)


def _end_status(folder: Path) -> str:
    """Return the status of a run that will never reach a rung; "" if it may."""
    try:
        return results.read(folder / "result.json").status
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except results.DamagedResult:
        return "damaged"


def _reason(decision: Mapping[str, Any], name: str) -> str:
    ranking = decision["ranking"]
    rank = next((i for i, r in enumerate(ranking, 1) if r["run_id"] == name), len(ranking))
    own, best = ranking[rank - 1], ranking[0]
    outcome = f"loss {own['loss']:.4f}" if own["loss"] is not None else own["why"]
    return (
        f"successive halving: rank {rank} of {len(ranking)} at {decision['tokens']:.1e} tokens "
        f"({outcome}, best {best['loss']:.4f})"
    )
