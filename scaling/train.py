"""One run, top to bottom: build, restore, step, log, save, evaluate, finish."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from scaling import accounting, files, machine, optim, results, sharding, step
from scaling import config as config_lib
from scaling.checkpoint import Checkpoints
from scaling.data import pipeline, prepare
from scaling.errors import Diverged, Preempted, UserError
from scaling.evaluate import HeldOut, evaluate
from scaling.identity import run_id


class StopSignal:
    """Turns SIGTERM and SIGINT into a flag that the loop asks; a second signal acts at once."""

    def __init__(self):
        self.caught = ""

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopSignal]:
        if threading.current_thread() is not threading.main_thread():
            yield self  # only the main thread may install handlers
            return
        old = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

        def handle(number, frame):
            self.caught = signal.Signals(number).name
            for s, handler in old.items():
                signal.signal(s, handler)

        for s in old:
            signal.signal(s, handle)
        try:
            yield self
        finally:
            for s, handler in old.items():
                signal.signal(s, handler)


def train_run(
    config: ConfigDict,
    run_dir: Path,
    *,
    role: str = "run",
    budget: float = 0.0,
    on_progress: Callable[[int], None] | None = None,
) -> results.RunResult:
    """Train one run in `run_dir`, or go on with it, or return the result that it already has.

    `on_progress` is called with the tokens trained since its last call, instead of a progress bar.

    Raises UserError on bad input, Preempted after a signal (everything saved), and results.DamagedResult
    where the directory's result cannot be read. A non-finite loss or gradient ends the run with status
    "diverged" and keeps the last good checkpoint.
    """
    result_path = run_dir / "result.json"
    if result_path.exists():
        return results.read(result_path)
    started = time.perf_counter()

    # ---- build: config, data, programs
    _claim(config, run_dir)
    data = prepare.prepare(config.data)
    _claim_data(data, run_dir)
    programs = step.programs(config)
    steps = config_lib.schedule_steps(config)
    K, per_step = config.train.steps_per_dispatch, config_lib.tokens_per_step(config)
    flops_per_step = accounting.flops_per_token(accounting.shape_of(config), "exact") * per_step
    hyper = {k: np.float32(v) for k, v in optim.hyperparameters(config).items()}
    held_out = pipeline.held_out_windows(
        data.valid, seq_len=config.data.seq_len, count=config.eval.tokens
    )
    source = pipeline.Dispatches(
        data.train,
        seq_len=config.data.seq_len,
        batch_size=config.train.batch_size,
        steps=K,
        seed=config.seed,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )

    def evaluated(state) -> HeldOut:
        """Held-out loss now, written down; reads `done` and `events` of the loop below."""

        def losses(tokens_BT1):
            return programs.sequence_losses(state["params"], tokens_BT1)

        found = evaluate(losses, held_out, data.byte_lengths, config.eval.batch_size)
        row = {"step": done, "tokens": done * per_step, **dataclasses.asdict(found)}
        files.append_lines(run_dir / "evals.jsonl", [row])
        events.add_scalar("eval/loss", found.loss, done)
        return found

    checkpoint_every = _dispatches(config.checkpoint.every_tokens, K * per_step)
    evaluate_every = _dispatches(config.eval.every_tokens, K * per_step)
    status, reason, final = "done", "", None
    with (
        Checkpoints(run_dir / "checkpoints", config.checkpoint.keep) as checkpoints,
        StopSignal().listening() as stop,
        _events(run_dir) as events,
    ):
        # ---- restore
        restored = checkpoints.restore(programs.state_like)
        if restored is None:
            state = programs.init(config.seed)
            position: dict[str, Any] = {"step": 0, "next_index": 0, "elapsed": 0.0}
        else:
            state, position = restored
        earlier, done = position["elapsed"], position["step"]
        dispatches = pipeline.iterate(source, position["next_index"], config.data.prefetch)
        batch_sharding = sharding.batch_sharding(programs.mesh, leading=1)
        bar = tqdm(
            total=steps["total"] * per_step,
            initial=done * per_step,
            unit="tok",
            unit_scale=True,
            desc=run_dir.name[:40],
            disable=True if on_progress else None,
        )
        speeds: list[float] = []
        # a run killed after its last checkpoint trains no more rows: its last loss is on disk
        logged = files.read_lines(run_dir / "metrics.jsonl", key="step")
        last_loss = next((row["loss"] for row in reversed(logged) if row["step"] <= done), None)

        def save(step_done: int) -> None:
            elapsed = earlier + time.perf_counter() - started
            next_index = math.ceil(step_done / K)
            checkpoints.save(step_done, state, {"next_index": next_index, "elapsed": elapsed})

        # ---- step, log, save
        try:
            pending, clock = None, time.perf_counter()
            while done < steps["total"]:
                count = min(K, steps["total"] - done)
                tokens_KBT1 = jax.make_array_from_process_local_data(
                    batch_sharding, next(dispatches)
                )
                state, metrics = programs.train(
                    state, hyper, tokens_KBT1, np.int32(done), np.int32(count)
                )
                ready, pending = pending, (done, count, metrics)
                done += count
                at_checkpoint = (done // K) % checkpoint_every == 0 or done == steps["total"]
                at_evaluation = config.eval.every_tokens and (done // K) % evaluate_every == 0
                stopping = stop.caught  # asked once: a signal may come between any two lines
                # One dispatch stays in flight while the rows of the one before it are written;
                # before anything is saved the flight is awaited, so that only good states are.
                flights: list[Any] = [ready] if ready else []
                if at_checkpoint or at_evaluation or stopping:
                    flights, pending = [*flights, pending], None
                for flight in flights:
                    last_loss = _log_rows(
                        run_dir, events, flight, config.train.log_every, per_step, flops_per_step
                    )
                    speeds.append(flight[1] * per_step / (time.perf_counter() - clock))
                    clock = time.perf_counter()
                    bar.set_postfix(loss=f"{last_loss:.4f}", refresh=False)
                    bar.update(flight[1] * per_step)
                    if on_progress:
                        on_progress(flight[1] * per_step)
                if at_evaluation and done < steps["total"]:
                    evaluated(state)
                if at_checkpoint or stopping:
                    save(done)
                if stopping and done < steps["total"]:
                    checkpoints.wait()
                    raise Preempted(f"{stopping}: {run_dir.name} saved at step {done}")

            # ---- evaluate
            final = evaluated(state)
            if not math.isfinite(final.loss):
                raise Diverged(f"held-out loss is {final.loss} after step {done}")
        except Diverged as error:
            status, reason, final = "diverged", str(error), None
        finally:
            bar.close()

    # ---- finish
    result = describe(config, data, role=role, budget=budget)
    result = dataclasses.replace(
        result,
        status=status,
        reason=reason,
        train_loss=last_loss,
        wall_time=earlier + time.perf_counter() - started,
        **_measured(final, speeds, flops_per_step / per_step),
    )
    results.write(result_path, result)
    (run_dir / "failure.json").unlink(missing_ok=True)
    return result


def describe(
    config: ConfigDict, data: prepare.TokenData, *, role: str, budget: float
) -> results.RunResult:
    """A result's row with everything that is known before training, status "failed"."""
    shape = accounting.shape_of(config)
    steps, per_step = config_lib.schedule_steps(config), config_lib.tokens_per_step(config)
    tokens = steps["total"] * per_step
    groups = accounting.param_groups(shape)
    decay = {"wsd": steps["decay"], "cosine": steps["total"] - steps["warmup"], "constant": 0}
    known: dict[str, Any] = {
        **accounting.param_counts(shape),
        **accounting.training_flops(shape, tokens),
    }
    return results.RunResult(
        **known,
        run_id=run_id(config),
        status="failed",
        reason="",
        role=role,
        depth=shape.depth,
        width=shape.width,
        head_dim=shape.head_dim,
        mlp_width=shape.mlp_width,
        vocab_size=shape.vocab_size,
        seq_len=shape.seq_len,
        n_params_head=groups["head"],
        n_params_embedding=groups["embedding"] + groups["positions"],
        tokens=tokens,
        unique_tokens=len(data.train),
        epochs=tokens / len(data.train),
        budget=float(budget),
        lr=config.optim.lr,
        warmup_tokens=steps["warmup"] * per_step,
        decay_tokens=decay[config.optim.schedule] * per_step,
        schedule=config.optim.schedule,
        batch_tokens=per_step,
        weight_decay=config.optim.weight_decay,
        seed=config.seed,
        loss=None,
        loss_se=None,
        bits_per_byte=None,
        eval_tokens=None,
        train_loss=None,
        wall_time=0.0,
        tokens_per_second=None,
        mfu=None,
        trunk="",
        config_hash=config_lib.run_hash(config),
        data_fingerprint=data.fingerprint,
        commit=machine.commit(),
        versions=machine.versions(),
        device=machine.device_name(),
    )


def _measured(final: HeldOut | None, speeds: list[float], flops_per_token: float) -> dict[str, Any]:
    # The first dispatch holds the compilation; a run of one dispatch has no clean speed.
    speed = statistics.median(speeds[1:]) if len(speeds) > 1 else None
    return {
        "loss": final.loss if final else None,
        "loss_se": final.loss_se if final else None,
        "bits_per_byte": final.bits_per_byte if final else None,
        "eval_tokens": final.tokens if final else None,
        "tokens_per_second": speed,
        "mfu": speed * flops_per_token / machine.peak_flops() if speed else None,
    }


def _dispatches(tokens: int, per_dispatch: int) -> int:
    """A duration in tokens as whole dispatches, at least one."""
    return max(1, round(tokens / per_dispatch))


def _claim(config: ConfigDict, run_dir: Path) -> None:
    """Write the run's config.json, or check that the one there names the same run."""
    path = run_dir / "config.json"
    if path.is_file():
        found = config_lib.from_json(files.read_json(path))
        if config_lib.run_hash(found) != config_lib.run_hash(config):
            raise UserError(
                f"{run_dir} belongs to another run ({config_lib.run_hash(found)}, this one is "
                f"{config_lib.run_hash(config)}); choose another --workdir"
            )
        return
    files.write_json(path, config_lib.to_json(config))


def _claim_data(data: prepare.TokenData, run_dir: Path) -> None:
    """Write the run's data.json, or check that it was begun on the same tokens."""
    path = run_dir / "data.json"
    if not path.is_file():
        files.write_json(path, {"fingerprint": data.fingerprint})
    elif files.read_json(path)["fingerprint"] != data.fingerprint:
        raise UserError(
            f"{run_dir} was begun on other data ({files.read_json(path)['fingerprint']}, now "
            f"{data.fingerprint}); restore the documents, or choose another --workdir"
        )


@contextlib.contextmanager
def _events(run_dir: Path):
    """A TensorBoard writer, closed with the run."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(run_dir / "tensorboard"), flush_secs=30)
    try:
        yield writer
    finally:
        writer.close()


def _log_rows(run_dir, events, flight, log_every, per_step, flops_per_step) -> float:
    """Write one dispatch's rows of metrics.jsonl; returns its last mean loss.

    A row holds the mean loss and gradient norm since the row before it. Raises Diverged at the first
    step whose loss or gradient is not finite.
    """
    first, count, metrics = flight
    loss_K, norm_K, lr_K = (
        np.asarray(metrics[k], np.float64)[:count] for k in ("loss", "grad_norm", "lr")
    )
    bad = np.flatnonzero(~np.isfinite(loss_K) | ~np.isfinite(norm_K))
    if len(bad):
        i = int(bad[0])
        raise Diverged(f"loss {loss_K[i]}, gradient norm {norm_K[i]} at step {first + i + 1}")
    rows = []
    for start in range(0, count, log_every):
        end = min(start + log_every, count)
        done = first + end
        rows.append(
            {
                "step": done,
                "tokens": done * per_step,
                "flops": float(done * flops_per_step),
                "loss": float(loss_K[start:end].mean()),
                "grad_norm": float(norm_K[start:end].mean()),
                "lr": float(lr_K[end - 1]),
            }
        )
        for key in ("loss", "grad_norm", "lr"):
            events.add_scalar(f"train/{key}", rows[-1][key], done)
    files.append_lines(run_dir / "metrics.jsonl", rows)
    return rows[-1]["loss"]
