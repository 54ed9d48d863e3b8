"""Successive halving of searches (Jamieson & Talwalkar 2016): runs that are behind early are stopped.

Runs of equal size, length, seed and data are a group. All are trained to the first rung, r tokens, and
paused; of n runs the n // eta of lowest held-out loss go on (at least one) to the next rung, r eta tokens,
and so on; the others end as "stopped". Losses at a rung are
taken on the way: of WSD before its decay where the rung lies before it, of cosine while it falls.

There is no server: a run's loss at a rung stands in its `evals.jsonl` (where the workdir is on an object
store also in `halving/<group>-<rung>/<run_id>.json`), and the decision of a rung is the file
`<workdir>/halving/<group>-<rung>.json`, created once by whichever worker first sees all of its losses. Runs
that diverged or failed rank last.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling import results
from scaling.sweep.shared.storage import is_remote, storage
from scaling.utils import files
from scaling.utils.errors import UserError

KINDS = ("grid", "random", "hyper")  # searches; a scaling sweep needs all of its runs
FARTHEST = 0.1  # a rung, in whole logged steps, may differ this much from what was asked for
ALIKE = ("model.depth", "model.width", "train.tokens", "seed")  # besides n_params, data and eval


@dataclass(frozen=True)
class Group:
    """Runs that are compared with each other, and the rungs at which they are."""

    name: str
    runs: tuple[Any, ...]  # scaling.sweep.plan.planner.PlannedRun
    rungs: tuple[int, ...]  # tokens
    eta: int

    def step(self, run, rung: int) -> int:
        """The optimizer step at which a run of the group is paused for a rung."""
        every = run.values["train.log_every"]
        return max(1, round(self.rungs[rung] * run.steps / run.tokens / every)) * every

    def left(self, rung: int) -> int:
        """How many runs are trained to a rung, or beyond the last one."""
        count = len(self.runs)
        for _ in range(rung):
            count = max(1, count // self.eta)
        return count


@dataclass(frozen=True)
class HalvingDecision:
    """What is to be done with a run now."""

    until: int = 0  # train to this step; 0 = to the end
    waits: bool = False  # for others to come to its rung
    stopped: str = ""  # why it is trained no further ...
    at: int = 0  # ... than this step, that of its last rung
    rung: int = 0


def check(config, runs: Sequence) -> None:
    """Raises UserError where the config's halving cannot be, or would compare nothing."""
    if config.sweep.halving:
        groups(runs)


def groups(runs: Sequence) -> list[Group]:
    """The groups of at least two runs, whose configs say how they are halved; none where halving is off.

    Raises UserError where there is none, or where a rung is no whole number of logged steps of a run.
    """
    alike: dict[str, list] = {}
    for run in runs:
        if run.values["sweep.halving"]:
            alike.setdefault(_key(run), []).append(run)
    found = []
    for name, members in alike.items():
        eta, rung = (members[0].values[f"sweep.{k}"] for k in ("halving", "halving_tokens"))
        rungs, count = [], len(members)
        while count > 1 and rung < min(r.tokens for r in members):
            rungs.append(rung)
            count, rung = max(1, count // eta), rung * eta
        if rungs:
            group = Group(name, tuple(members), tuple(rungs), eta)
            for run in members:
                _check_steps(group, run)
            found.append(group)
    if alike and not found:
        raise UserError(
            f"config.sweep.halving={runs[0].values['sweep.halving']}: no two runs of equal size, length and "
            f"seed are longer than config.sweep.halving_tokens={runs[0].values['sweep.halving_tokens']}; "
            "set halving to 0, or lower halving_tokens"
        )
    return found


def saving(runs: Sequence) -> tuple[float, float]:
    """(FLOPs that are trained where halving stops all that it can, FLOPs of the whole plan)."""
    trained = whole = sum(run.flops for run in runs)
    for group in groups(runs):
        run = group.runs[0]  # a token costs the same in all of them
        for rung, tokens in enumerate(group.rungs):
            stopped = group.left(rung) - group.left(rung + 1)
            trained -= stopped * run.flops * (1 - tokens / run.tokens)
    return trained, whole


def _key(run) -> str:
    """Equal for runs whose losses can be compared at equal tokens."""
    values = [(k, v) for k, v in run.values.items() if k.startswith(("data.", "eval."))]
    text = repr((run.n_params, [run.values[k] for k in ALIKE], values))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _check_steps(group: Group, run) -> None:
    per_step = run.tokens // run.steps
    for rung, tokens in enumerate(group.rungs):
        step = group.step(run, rung)
        if step >= run.steps or abs(step * per_step / tokens - 1) > FARTHEST:
            raise UserError(
                f"config.sweep.halving_tokens={group.rungs[0]}: the rung at {tokens} tokens is not near a "
                f"logged step of {run.run_id} ({run.values['train.log_every']} steps of {per_step} tokens) "
                "before its end; raise it, or lower config.train.log_every"
            )


class Halving:
    """The decisions of one workdir, read and made. Without groups every run is trained to its end."""

    def __init__(self, workdir: Path, runs: Sequence, shared: Path | str = ""):
        """`shared`: the folder or URL of what all workers see, where that is not `workdir`."""
        self.workdir, self._shared = workdir, f"{shared or workdir}/halving"
        self._storage = storage(self._shared)
        self._group = {run.run_id: group for group in groups(runs) for run in group.runs}
        self._decisions: dict[str, dict[str, Any]] = {}
        self._paused: dict[tuple[str, int], dict[str, Any]] = {}  # by run and rung

    def turn(self, run, failed: Callable[[str], bool]) -> HalvingDecision:
        """What is to be done with a run; decides its rung where all losses are there.

        `failed(run_id)`: whether a run failed in this launch, and so is not to be waited for.
        Raises UserError where a decision's file is damaged or cannot be written, OSError where an object
        store does not answer.
        """
        group = self._group.get(run.run_id)
        if group is None:
            return HalvingDecision()
        members: list[str] = [r.run_id for r in group.runs]
        for rung in range(len(group.rungs)):
            step = group.step(run, rung)
            decision = self._decision(group, rung)
            if decision is None:
                if self._loss(group, rung, run) is None:
                    return HalvingDecision(until=step)
                decision = self._decide(group, rung, members, failed)
            if decision is None:
                return HalvingDecision(waits=True)
            members = decision["kept"]
            if run.run_id not in members:
                return HalvingDecision(stopped=_reason(decision, run.run_id), at=step, rung=rung)
        return HalvingDecision()

    def row(self, described: results.RunResult, run, turn: HalvingDecision) -> results.RunResult:
        """The row of a run that is stopped, made from `described`, what is known of it before training."""
        paused = self._pause(self._group[run.run_id], turn.rung, run)
        rows = self._rows(run.run_id, "metrics.jsonl")
        trained = (
            turn.at if paused else rows[-1]["step"] if rows else 0
        )  # it failed before the rung
        return dataclasses.replace(
            described,
            status="stopped",
            reason=turn.stopped,
            train_loss=paused["train_loss"] if paused else None,
            flops_spent=run.flops * trained / run.steps,
            wall_time=paused["elapsed"] if paused else 0.0,
        )

    def _decision(self, group: Group, rung: int) -> dict[str, Any] | None:
        name = f"{group.name}-{rung}.json"
        if name not in self._decisions:
            content = self._storage.read(name)
            if content is None:
                return None
            try:
                found = json.loads(content)
                found["kept"], found["tokens"], found["ranking"][0]["loss"]
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise UserError(
                    f"{self._shared}/{name}: damaged; delete it, or restore it"
                ) from error
            self._decisions[name] = found
        return self._decisions[name]

    def _decide(
        self, group: Group, rung: int, members: list[str], failed: Callable[[str], bool]
    ) -> dict[str, Any] | None:
        """The decision of a rung, by whoever was first; None while somebody is to be waited for."""
        of_run = {run.run_id: run for run in group.runs}
        ranking = []
        for name in members:
            loss, why = self._loss(group, rung, of_run[name]), ""
            if loss is None:
                why = _ended(self.workdir / "runs" / name)
                if not why and not failed(name):
                    return None
                why = why or "failed"
            ranking.append({"run_id": name, "loss": loss, "why": why})
        ranking.sort(key=lambda r: (r["loss"] is None, r["loss"] or 0.0, r["run_id"]))
        good = sum(r["loss"] is not None for r in ranking)
        kept = [r["run_id"] for r in ranking[: min(good, max(1, len(ranking) // group.eta))]]
        content = {"tokens": group.rungs[rung], "eta": group.eta, "kept": kept, "ranking": ranking}
        try:
            text = json.dumps(content, indent=1) + "\n"
            self._storage.create(f"{group.name}-{rung}.json", text.encode())
        except OSError as error:
            if is_remote(self._shared):
                raise
            raise UserError(
                f"{self._shared}: no decision can be written there ({error}); make it writable, "
                "or free some space"
            ) from error
        return self._decision(group, rung)

    def _loss(self, group: Group, rung: int, run) -> float | None:
        """Held-out loss of a run at a rung, None where it is not there."""
        paused = self._pause(group, rung, run)
        return paused["loss"] if paused else None

    def _pause(self, group: Group, rung: int, run) -> dict[str, Any] | None:
        """`loss`, `train_loss` and `elapsed` seconds of a run that came to a rung, by whoever trained it."""
        name, step, key = (
            run.run_id,
            group.step(run, rung),
            f"{group.name}-{rung}/{run.run_id}.json",
        )
        if (name, rung) in self._paused:
            return self._paused[name, rung]
        row = next((r for r in self._rows(name, "evals.jsonl") if r["step"] == step), None)
        if row is not None and row["loss"] is not None and math.isfinite(row["loss"]):
            logged = [r["loss"] for r in self._rows(name, "metrics.jsonl") if r["step"] <= step]
            found = {
                "loss": row["loss"],
                "train_loss": logged[-1] if logged else None,
                "elapsed": row.get("elapsed", 0.0),
            }
            if is_remote(self._shared):
                self._storage.replace(key, (json.dumps(found) + "\n").encode())
        else:
            content = self._storage.read(key) if is_remote(self._shared) else None
            if content is None:
                return None
            found = json.loads(content)
        self._paused[name, rung] = found
        return found

    def _rows(self, name: str, file: str) -> list[dict[str, Any]]:
        return files.read_lines(self.workdir / "runs" / name / file, "step")


def _ended(folder: Path) -> str:
    """Why a run will never come to a rung; "" where it may."""
    try:
        return results.read(folder / "result.json").status
    except FileNotFoundError:
        return ""
    except results.DamagedResult:
        return "damaged"


def _reason(decision: Mapping[str, Any], name: str) -> str:
    ranking = decision["ranking"]
    rank = next((i for i, r in enumerate(ranking, 1) if r["run_id"] == name), len(ranking))
    own, best = ranking[rank - 1], ranking[0]
    said = f"loss {own['loss']:.4f}" if own["loss"] is not None else own["why"]
    return (
        f"successive halving: rank {rank} of {len(ranking)} at {decision['tokens']:.1e} tokens "
        f"({said}, best {best['loss']:.4f})"
    )
