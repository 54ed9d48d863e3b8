"""From a plan to jobs: what one worker takes as a whole. Pure; the same on every worker.

Shared trunks (Haegele et al. 2024): before its decay a WSD run does not know how long it will be. Of
runs that differ only in length or decay, the one that decays last is the trunk; each other one forks
from the trunk's checkpoint at its last logged step before its own decay, and trains only from there.
Where the decay is replaced by a merge of checkpoints, nothing is left to train.

Packs: runs of one program and of about equal length train side by side in it (scaling/training/loop.py).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.config import load as config_lib
from scaling.config.flat_dict import view
from scaling.sweep.plan.planner import PlannedRun
from scaling.training.spec import RunSpec

LENGTHS = 1.25  # longest over shortest run of a pack; the short ones' seats stay empty for the rest

# What runs of one family, and of one pack, may differ in.
OF_FAMILY = (
    "train.tokens",
    "optim.decay_fraction",
    "optim.warmup_tokens",  # compared by the steps that they come to
    "optim.warmup_fraction",
    "optim.cooldown",
    "optim.merge_checkpoints",
    "optim.merge_weights",
)
OF_PACK = (
    *OF_FAMILY,
    "seed",
    "name",
    "optim.lr",
    "optim.weight_decay",
    "optim.final_lr",
    "parallel.device_memory_gb",
)


@dataclass(frozen=True)
class JobRun:
    """One run of a job, and what it shares with other runs."""

    run: PlannedRun
    trunk: str = ""  # run_id of the run that it forks from
    fork_step: int = 0
    keep_steps: tuple[int, ...] = ()  # where others fork from this one

    @property
    def steps(self) -> int:
        """Steps that are trained for this run alone."""
        return self.run.steps - self.fork_step

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def n_params(self) -> int:
        return self.run.n_params

    @property
    def merges(self) -> tuple[int, ...]:
        """The checkpoints of its own that the run merges at its end."""
        return tuple(s for s in _merge_steps(self.run.values) if s > self.fork_step)

    @property
    def needs(self) -> tuple[int, ...]:
        """The trunk's checkpoints that a fork begins from or merges."""
        merged = (s for s in _merge_steps(self.run.values) if s < self.fork_step)
        return (*merged, self.fork_step) if self.trunk else ()

    @property
    def tokens(self) -> int:
        """Tokens that are trained for this run alone."""
        return self.run.tokens // self.run.steps * self.steps

    @property
    def flops(self) -> float:
        """FLOPs that are trained for this run alone, by the "exact" convention."""
        return self.run.flops * self.steps / self.run.steps

    def fraction(self, tokens: int) -> float:
        """The trained part of `tokens` where the run, its trunk's part counted, has seen `tokens`."""
        forked = self.run.tokens - self.tokens
        return min(1.0, max(0.0, (tokens - forked) / self.tokens)) if self.tokens else 1.0

    def spec(self, workdir: Path, role: str) -> RunSpec:
        runs = workdir / "runs"
        return RunSpec(
            config=self.run.config,
            folder=runs / self.run.run_id,
            role=role,
            budget=self.run.budget,
            trunk=runs / self.trunk if self.trunk else None,
            fork_step=self.fork_step,
            keep_steps=self.keep_steps,
        )


Job = tuple[JobRun, ...]  # one run, or a pack


def runs_by_id(runs: Sequence[PlannedRun], share_trunks: bool = True) -> dict[str, JobRun]:
    """run_id -> its part, in the plan's order."""
    found = {part.run_id: part for part in job_runs(runs, share_trunks)}
    return {run.run_id: found[run.run_id] for run in runs}


def job_runs(runs: Sequence[PlannedRun], share_trunks: bool) -> list[JobRun]:
    """Every run with its place in its family, trunks before those that fork from them."""
    if not share_trunks:
        return [JobRun(run) for run in runs]
    families: dict[Any, list[tuple[int, PlannedRun]]] = {}
    for run in runs:
        families.setdefault(_family(run), []).append((_fork_step(run.values), run))
    found = []
    for members in families.values():
        trunk = max(members, key=lambda m: (m[0], m[1].steps))[1]
        forks = {run.run_id: step for step, run in members if run is not trunk and step > 0}
        keep = {s for _, run in members if run.run_id in forks for s in _merge_steps(run.values)}
        found.append(JobRun(trunk, keep_steps=tuple(sorted({*forks.values(), *keep}))))
        for _, run in members:
            if run.run_id in forks:
                found.append(JobRun(run, trunk.run_id, forks[run.run_id]))
            elif run is not trunk:
                found.append(JobRun(run))
    return found


def jobs(parts: Iterable[JobRun], pack: Mapping[str, int] | int) -> list[Job]:
    """Packs of at most `pack` runs (by pack key, or one number for all), and runs alone.

    Runs that fork are packed apart from runs that do not, since they have to wait for their trunks.
    """
    parts = list(parts)
    found: list[Job] = []
    for key, alike in groups(parts):
        count = math.ceil(len(alike) / (pack if isinstance(pack, int) else pack.get(key, 1)))
        cuts = [len(alike) * k // count for k in range(count + 1)]
        found += [tuple(alike[a:b]) for a, b in itertools.pairwise(cuts)]
    order = {part.run.run_id: i for i, part in enumerate(parts)}
    return sorted(found, key=lambda job: min(order[part.run.run_id] for part in job))


def groups(parts: Iterable[JobRun]) -> list[tuple[str, list[JobRun]]]:
    """(pack key, runs of about equal length, the longest first) for all runs."""
    found: dict[str, list[list[JobRun]]] = {}
    for part in sorted(parts, key=lambda p: (-p.steps, p.run.run_id)):
        alike = found.setdefault(pack_key(part), [])
        if alike and alike[-1][0].steps <= LENGTHS * part.steps:
            alike[-1].append(part)
        else:
            alike.append([part])
    return [(key, members) for key, lists in found.items() for members in lists]


def pack_key(part: JobRun) -> str:
    """Equal for runs that one program can train side by side; a run that may be stopped trains alone."""
    if part.run.values["sweep.halving"]:
        return part.run.run_id
    return _digest(part.run.values, OF_PACK, bool(part.trunk))


def _digest(values: Mapping[str, Any], left_out: tuple[str, ...], *more) -> str:
    kept = [(key, values[key]) for key in _compared(tuple(values), left_out)]
    return hashlib.sha256(repr((kept, more)).encode()).hexdigest()[:12]


@functools.cache
def _compared(keys: tuple[str, ...], left_out: tuple[str, ...]) -> tuple[str, ...]:
    sections = ("sweep", "launch", "laws", "checkpoint")
    return tuple(k for k in keys if k not in left_out and k.partition(".")[0] not in sections)


def _family(run: PlannedRun) -> Any:
    """Equal for runs that go the same way until the first of them decays; a run that may be stopped is
    nobody's trunk."""
    cosine = run.values["optim.schedule"] == "cosine"  # bends from the start towards its own end
    if cosine or run.values["sweep.halving"]:
        return run.run_id
    return _digest(run.values, OF_FAMILY, config_lib.schedule_steps(view(run.values))["warmup"])


def _merge_steps(values: Mapping[str, Any]) -> tuple[int, ...]:
    return config_lib.merge_steps(view(values))


def _fork_step(values: Mapping[str, Any]) -> int:
    """The last step before the decay at which a row of metrics ends, at least the warm-up's end; the last
    step of all where checkpoints are merged instead."""
    steps = config_lib.schedule_steps(view(values))
    if values["optim.cooldown"] == "merge":
        return steps["total"]
    every = values["train.log_every"]
    step = (steps["total"] - steps["decay"]) // every * every
    return step if step >= steps["warmup"] else 0
