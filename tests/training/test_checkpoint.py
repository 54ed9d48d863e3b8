"""Checkpoints: round trip in place, and a damaged newest one falls back with a warning."""

from __future__ import annotations

import errno
import json
import logging
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.parallel import sharding
from scaling.programs import schedules, train_step
from scaling.training import checkpoint
from scaling.training.checkpoint import Checkpoints
from scaling.utils.errors import UserError


def same(a, b) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(np.asarray(x), np.asarray(y)) for x, y in leaves)


@pytest.fixture
def saved(tmp_path, config):
    """Two checkpoints, of steps 16 and 32, and the states that were saved."""
    programs = train_step.programs(config)
    states = {16: programs.init(1), 32: programs.init(2)}
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        for number, state in states.items():
            checkpoints.save(number, state, {"next_index": number // 16, "elapsed": 1.5})
            checkpoints.wait()
    return tmp_path / "checkpoints", programs, states


def test_newest_is_restored_into_its_shards(saved):
    folder, programs, states = saved
    with Checkpoints(folder, keep=2) as checkpoints:
        state, position = checkpoints.restore(programs.state_like)
    assert same(state, states[32])
    assert position["step"] == 32 and position["next_index"] == 2
    for leaf, like in zip(
        jax.tree.leaves(state), jax.tree.leaves(programs.state_like), strict=True
    ):
        assert leaf.sharding == like.sharding


@pytest.mark.parametrize("how", ["truncate", "flip", "delete"])
def test_a_damaged_newest_falls_back_with_a_warning(saved, how, caplog):
    folder, programs, states = saved
    files = [f for f in (folder / "32" / "state").rglob("*") if f.is_file()]
    if how == "delete":
        for f in files:
            f.unlink()
    else:
        largest = max(files, key=lambda f: f.stat().st_size)
        content = bytearray(largest.read_bytes())
        if how == "truncate":
            content = content[: len(content) // 2]
        else:
            content[len(content) // 2] ^= 0xFF
        largest.write_bytes(content)
    with caplog.at_level(logging.WARNING, "scaling"), Checkpoints(folder, keep=2) as checkpoints:
        state, position = checkpoints.restore(programs.state_like)
        assert position["step"] == 16 and same(state, states[16])
        assert "falling back" in caplog.text
        # the step can be saved again, and the damaged one is kept aside
        checkpoints.save(32, states[32], {"next_index": 2, "elapsed": 2.0})
        checkpoints.wait()
        assert checkpoints.restore(programs.state_like)[1]["step"] == 32
    assert list((folder.parent / "damaged").iterdir())


@pytest.mark.parametrize(
    "error",
    [
        None,
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.ESTALE, "Stale file handle"),
    ],
    ids=["memory", "rights", "network"],
)
def test_what_the_machine_refuses_is_no_damage(saved, error, monkeypatch):
    folder, programs, states = saved
    with Checkpoints(folder, keep=2) as checkpoints:

        def refuse(*args, **options):
            if error is None:
                jnp.ones(1 << 50)  # jax's own error, with its code
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._manager, "restore", refuse)
            with pytest.raises(UserError, match=r"32 cannot be read now .*; it is left unchanged"):
                checkpoints.restore(programs.state_like)
        state, position = checkpoints.restore(programs.state_like)
    assert position["step"] == 32 and same(state, states[32])
    assert not (folder.parent / "damaged").exists()


def test_a_folder_that_cannot_be_made_is_one_line_and_leaves_no_thread(tmp_path, config):
    (tmp_path / "checkpoints").write_text("a file in its place")
    state, before = train_step.programs(config).init(0), set(threading.enumerate())
    with (
        pytest.raises(UserError, match=r"checkpoints cannot be written \(.*File exists"),
        Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints,
    ):
        checkpoints.save(16, state, {"elapsed": 0.0})
    assert not [t for t in set(threading.enumerate()) - before if not t.daemon]


def test_nothing_saved_restores_nothing(tmp_path, config):
    with Checkpoints(tmp_path / "checkpoints", keep=1) as checkpoints:
        assert checkpoints.restore(train_step.programs(config).state_like) is None


def test_only_the_newest_are_kept(tmp_path, config):
    state = train_step.programs(config).init(0)
    with Checkpoints(tmp_path / "checkpoints", keep=2) as checkpoints:
        for number in (1, 2, 3):
            checkpoints.save(number, state, {"next_index": 0, "elapsed": 0.0})
        checkpoints.wait()
    steps = sorted(p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit())
    assert steps == ["2", "3"]


def test_training_step_gives_its_state_away(config):
    """The compiled step aliases the state it was given: no second copy of it is ever held."""
    programs = train_step.programs(config)
    state = programs.init(0)
    tokens = np.zeros((16, 4, 33), np.uint8)
    hyper = {k: np.float32(v) for k, v in schedules.hyperparameters(config).items()}
    placed = jax.device_put(tokens, sharding.batch_sharding(programs.mesh, leading=1))
    compiled = programs.jitted.lower(
        state, hyper, placed, np.int32(0), np.int32(0), np.int32(16)
    ).compile()
    held = sum(x.nbytes for x in jax.tree.leaves(state))
    assert compiled.memory_analysis().alias_size_in_bytes >= 0.99 * held


def restored(folder, programs, **options):
    with Checkpoints(folder, keep=2, **options) as checkpoints:
        return checkpoints.restore(programs.state_like)[1]["step"]


def edit(path, **values) -> None:
    """Change values of a position, and keep what else the file holds."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: edit(folder / "32" / "position" / "metadata", step=22),
        lambda folder: edit(folder / "32" / "position" / "metadata", elapsed=9.5),
        lambda folder: edit(folder / "32" / "position" / "metadata", step=22, seal=None),
        lambda folder: (folder / "32").rename(folder / "48"),
        lambda folder: (folder / "32" / "_CHECKPOINT_METADATA").write_text("[]"),
        lambda folder: (folder / "32" / "position" / "metadata").write_text("[" * 100_000),
        lambda folder: (folder / "32" / "state" / "manifest.ocdbt").write_bytes(b""),
    ],
    ids=["step", "seconds", "unsealed step", "renamed", "list", "brackets", "manifest"],
)
def test_any_damage_is_one_line_and_falls_back(saved, damage, capfd, caplog):
    folder, programs, _ = saved
    damage(folder)
    with caplog.at_level(logging.WARNING, "scaling"):
        assert restored(folder, programs) == 16
    assert len(caplog.messages) == 1 and "falling back" in caplog.messages[0]
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_checkpoint_of_another_run_is_set_aside(tmp_path, config, caplog):
    programs = train_step.programs(config)
    for step, run in ((16, "mine"), (32, "other")):
        with Checkpoints(tmp_path / "checkpoints", keep=2, run=run) as checkpoints:
            checkpoints.save(step, programs.init(step), {"elapsed": 1.0})
    with caplog.at_level(logging.WARNING, "scaling"):
        assert restored(tmp_path / "checkpoints", programs, run="mine") == 16
    assert "of another run, other" in caplog.text


def test_a_checkpoint_without_seal_and_run_is_restored(saved):
    """As those of older versions."""
    folder, programs, _ = saved
    path = folder / "32" / "position" / "metadata"
    position = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in position.items() if k not in ("seal", "run")}))
    assert restored(folder, programs, run="mine") == 32


def test_sums_of_shards_depend_on_no_layout_and_notice_any_bit(cache):
    """As several processes hash a state that none of them holds as a whole."""
    devices = jax.make_mesh((2,), ("x",))
    values = {
        "w": np.arange(24, dtype=np.float32).reshape(4, 6),
        "b": np.ones(4, jnp.bfloat16),
        "n": np.int32(3),
    }

    def digest(state, *axes):
        placed = {
            name: jax.device_put(value, jax.NamedSharding(devices, jax.P(*axes[: np.ndim(value)])))
            for name, value in state.items()
        }
        return checkpoint._digest(placed, like=checkpoint.SUMS)

    whole = digest(values)
    assert whole.startswith(checkpoint.SUMS)
    assert digest(values, "x") == digest(values, None, "x") == whole
    rng = np.random.default_rng(0)
    for _ in range(8):
        flipped = np.array(values["w"])
        flipped.view(np.uint32)[rng.integers(4), rng.integers(6)] ^= 1 << rng.integers(32)
        assert digest({**values, "w": flipped}, "x") != whole
    assert digest({**values, "w": values["w"][::-1]}, "x") != whole
