"""Group the runs of a plan into jobs, the unit that one worker claims; the same on every worker.

Shared trunks (Haegele et al. 2024): before its decay, a WSD run does not depend on its length.
Among runs that differ only in length or decay, the one that decays last is the trunk. Every other
run forks from the trunk's checkpoint at its last logged step before its own decay, and trains only
from there. If a merge of checkpoints replaces the decay, no training is left.

Packs: runs of one program and about equal length train side by side (scaling/training/loop.py).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaling.config import hashing, keys
from scaling.config import load as config_lib
from scaling.config.flat_dict import view
from scaling.sweep.plan.planner import PlannedRun
from scaling.training.spec import RunSpec

LENGTHS = 1.25  # largest ratio of lengths in a pack; the slot of a shorter run is idle at the end

# The keys that runs of one family, and of one pack, may differ in.
FREE_IN_FAMILY = (
    "train.tokens",
    "optim.decay_fraction",
    "optim.warmup_tokens",  # the family compares the warm-up in steps
    "optim.warmup_fraction",
    "optim.cooldown",
    "optim.merge_checkpoints",
    "optim.merge_weights",
)
FREE_IN_PACK = (
    *FREE_IN_FAMILY,
    "seed",
    "name",
    "optim.lr",
    "optim.weight_decay",
    "optim.final_lr",
    "parallel.device_memory_gb",
)


@dataclass(frozen=True)
class JobRun:
    """One run of a job, and its links to other runs."""

    run: PlannedRun
    trunk: str = ""  # run_id of the run that it forks from
    fork_step: int = 0
    keep_steps: tuple[int, ...] = ()  # steps at which other runs fork from this one

    @property
    def steps(self) -> int:
        """Steps trained for this run alone."""
        return self.run.steps - self.fork_step

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def n_params(self) -> int:
        return self.run.n_params

    @property
    def merges(self) -> tuple[int, ...]:
        """Steps of the run's own checkpoints that it merges at its end."""
        return tuple(s for s in _merge_steps(self.run.values) if s > self.fork_step)

    @property
    def needs(self) -> tuple[int, ...]:
        """Steps of the trunk's checkpoints that a fork starts from or merges."""
        merged = (s for s in _merge_steps(self.run.values) if s < self.fork_step)
        return (*merged, self.fork_step) if self.trunk else ()

    @property
    def tokens(self) -> int:
        """Tokens trained for this run alone."""
        return self.run.tokens // self.run.steps * self.steps

    @property
    def flops(self) -> float:
        """FLOPs trained for this run alone, by the "exact" convention."""
        return self.run.flops * self.steps / self.run.steps

    def fraction(self, tokens: int) -> float:
        """Return the trained share of `self.tokens` after `tokens`, which include the trunk's."""
        trunk_tokens = self.run.tokens - self.tokens
        return min(1.0, max(0.0, (tokens - trunk_tokens) / self.tokens)) if self.tokens else 1.0

    def spec(self, workdir: Path, role: str) -> RunSpec:
        """Return the specification of the run for the training loop."""
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
    """Return the JobRun of every run by run_id, in the plan's order."""
    by_id = {job_run.run_id: job_run for job_run in job_runs(runs, share_trunks)}
    return {run.run_id: by_id[run.run_id] for run in runs}


def job_runs(runs: Sequence[PlannedRun], share_trunks: bool) -> list[JobRun]:
    """Return every run with its links to its family, trunks before their forks."""
    if not share_trunks:
        return [JobRun(run) for run in runs]
    families: dict[Any, list[tuple[int, PlannedRun]]] = {}
    for run in runs:
        families.setdefault(_family(run), []).append((_fork_step(run.values), run))
    linked = []
    for members in families.values():
        trunk = max(members, key=lambda m: (m[0], m[1].steps))[1]
        forks = {run.run_id: step for step, run in members if run is not trunk and step > 0}
        keep = {s for _, run in members if run.run_id in forks for s in _merge_steps(run.values)}
        linked.append(JobRun(trunk, keep_steps=tuple(sorted({*forks.values(), *keep}))))
        for _, run in members:
            if run.run_id in forks:
                linked.append(JobRun(run, trunk.run_id, forks[run.run_id]))
            elif run is not trunk:
                linked.append(JobRun(run))
    return linked


def jobs(members: Iterable[JobRun], pack: Mapping[str, int] | int) -> list[Job]:
    """Return packs of at most `pack` runs (by pack key, or one number for all), and single runs.

    Runs that fork are packed separately from others, since they wait for their trunks.
    """
    members = list(members)
    packs: list[Job] = []
    for key, group in groups(members):
        count = math.ceil(len(group) / (pack if isinstance(pack, int) else pack.get(key, 1)))
        cuts = [len(group) * k // count for k in range(count + 1)]
        packs += [tuple(group[a:b]) for a, b in itertools.pairwise(cuts)]
    order = {job_run.run_id: i for i, job_run in enumerate(members)}
    return sorted(packs, key=lambda job: min(order[job_run.run_id] for job_run in job))


def groups(members: Iterable[JobRun]) -> list[tuple[str, list[JobRun]]]:
    """Return (pack key, runs of about equal length, the longest first) for all runs."""
    by_key: dict[str, list[list[JobRun]]] = {}
    for job_run in sorted(members, key=lambda m: (-m.steps, m.run_id)):
        lists = by_key.setdefault(pack_key(job_run), [])
        if lists and lists[-1][0].steps <= LENGTHS * job_run.steps:
            lists[-1].append(job_run)
        else:
            lists.append([job_run])
    return [(key, group) for key, lists in by_key.items() for group in lists]


def pack_key(job_run: JobRun) -> str:
    """Return a key that is equal for runs that one program can train side by side.

    A run that successive halving may stop trains alone.
    """
    if job_run.run.values["sweep.halving"]:
        return job_run.run_id
    return _digest(job_run.run.values, FREE_IN_PACK, bool(job_run.trunk), *_round(job_run.run))


def _digest(values: Mapping[str, Any], free: tuple[str, ...], *more) -> str:
    fixed = [(key, keys.encode(key, values[key])) for key in _fixed_keys(tuple(values), free)]
    return hashing.digest(repr((fixed, more)), 12)


@functools.cache
def _fixed_keys(names: tuple[str, ...], free: tuple[str, ...]) -> tuple[str, ...]:
    sections = ("sweep", "launch", "laws", "checkpoint")
    return tuple(k for k in names if k not in free and k.partition(".")[0] not in sections)


def _family(run: PlannedRun) -> Any:
    """Return a key that is equal for runs with equal steps until the first of them decays.

    A run that successive halving may stop is never a trunk.
    """
    # cosine, and maybe a plugin's, depends on its length from the first step
    if run.values["optim.schedule"] not in ("wsd", "constant") or run.values["sweep.halving"]:
        return run.run_id
    return _digest(
        run.values,
        FREE_IN_FAMILY,
        config_lib.schedule_steps(view(run.values))["warmup"],
        *_round(run),
    )


def _round(run: PlannedRun) -> tuple[str, ...]:
    """Return what keeps the runs of a growth apart from earlier ones, see growth.py."""
    return (f"round {run.round}",) if run.round else ()


def _merge_steps(values: Mapping[str, Any]) -> tuple[int, ...]:
    return config_lib.merge_steps(view(values))


def _fork_step(values: Mapping[str, Any]) -> int:
    """Return the last logged step before the decay, 0 if that is within the warm-up.

    If checkpoints are merged instead of a decay, return the last step of the run.
    """
    steps = config_lib.schedule_steps(view(values))
    if values["optim.cooldown"] == "merge":
        return steps["total"]
    every = values["train.log_every"]
    step = (steps["total"] - steps["decay"]) // every * every
    return step if step >= steps["warmup"] else 0
