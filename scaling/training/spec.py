"""A run's config, its columns known before training, and the files that mark its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from scaling import accounting, results
from scaling.config import hashing
from scaling.config import load as config_lib
from scaling.utils import files, machine
from scaling.utils.errors import UserError

if TYPE_CHECKING:  # fields bring JAX, and a look at a sweep needs none
    from scaling.fields.field import Prepared


@dataclass(frozen=True)
class RunSpec:
    """One run to train. Steps are optimizer steps.

    With a `trunk` (another run's folder) a run without a checkpoint of its own begins from the
    trunk's newest kept checkpoint of at most `fork_step` steps, which must lie before the two runs
    differ.
    """

    config: ConfigDict
    folder: Path
    role: str = "run"
    budget: float = 0.0  # FLOPs that the plan grants it
    trunk: Path | None = None
    fork_step: int = 0
    keep_steps: tuple[int, ...] = ()  # checkpoints that other runs fork from: made and kept
    until: int = 0  # pause, saved and evaluated, at this step; 0 = train to the end


def describe(spec: RunSpec, data: Prepared) -> results.RunResult:
    """Return a result's row with all columns known before training, status "failed"."""
    config = spec.config
    shape = accounting.shape_of(config)
    steps, per_step = config_lib.schedule_steps(config), config_lib.tokens_per_step(config)
    tokens = steps["total"] * per_step
    groups = accounting.param_groups(shape)
    decays = {"wsd": steps["decay"], "constant": 0}  # others fall from the warm-up on
    decay = decays.get(config.optim.schedule, steps["total"] - steps["warmup"])
    counts: dict[str, Any] = {
        **accounting.param_counts(shape),
        **accounting.training_flops(shape, tokens),
    }
    return results.RunResult(
        **counts,
        run_id=spec.folder.name,
        status="failed",
        reason="",
        role=spec.role,
        depth=shape.depth,
        width=shape.width,
        head_dim=shape.head_dim,
        mlp_width=shape.mlp_width,
        vocab_size=shape.vocab_size,
        seq_len=shape.seq_len,
        n_params_head=groups["head"],
        n_params_embedding=groups["embedding"] + groups["positions"],
        tokens=tokens,
        unique_tokens=data.unique,
        epochs=tokens / data.per_epoch,
        budget=float(spec.budget),
        flops_spent=0.0,
        lr=config.optim.lr,
        warmup_tokens=steps["warmup"] * per_step,
        decay_tokens=decay * per_step,
        schedule=config.optim.schedule + ("-merge" if config.optim.cooldown == "merge" else ""),
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
        packed=1,
        config_hash=hashing.run_hash(config),
        data_fingerprint=data.fingerprint,
        commit=machine.commit(),
        versions=machine.versions(),
        device=machine.device_name(),
        field=config.data.field,
    )


def write_or_check_config(config: ConfigDict, folder: Path) -> None:
    """Write the run's config.json. Raises UserError if the one in the folder names another run."""
    path = folder / "config.json"
    if path.is_file():
        stored = config_lib.from_json(files.read_json(path), path)
        if hashing.run_hash(stored) != hashing.run_hash(config):
            raise UserError(
                f"{folder} belongs to another run ({hashing.run_hash(stored)}, this one is "
                f"{hashing.run_hash(config)}); choose another --workdir"
            )
        return
    files.write_json(path, config_lib.to_json(config))


def write_or_check_data(data: Prepared, folder: Path) -> None:
    """Write the run's data.json and tokenizer.json.

    Raises UserError if the data.json in the folder names other data.
    """
    path = folder / "data.json"
    if not path.is_file():
        files.write_json(path, {"fingerprint": data.fingerprint})
    with files.damage(path):
        stored = files.read_json(path)["fingerprint"]
    if stored != data.fingerprint:
        raise UserError(
            f"{folder} was begun on other data ({stored}, now {data.fingerprint}); restore the "
            "documents, or choose another --workdir"
        )
    if data.tokenizer_file is not None:
        files.write_bytes(folder / data.tokenizer_file.name, data.tokenizer_file.read_bytes())
