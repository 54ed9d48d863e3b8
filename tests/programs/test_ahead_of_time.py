"""What a program holds and computes, what does not fit, and `scaling plan --compile`."""

from __future__ import annotations

import json

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

from benchmarks import weak_scaling
from scaling import accounting, cli
from scaling.config import load as config_lib
from scaling.parallel import collectives
from scaling.parallel.collectives import Collective
from scaling.programs import ahead_of_time, memory, roofline, train_step
from scaling.sweep.execute import runner
from scaling.sweep.plan import planner
from scaling.training import loop as train_lib
from scaling.training.spec import RunSpec
from scaling.utils import machine, units
from scaling.utils.errors import EXIT_BAD_INPUT, UserError
from tests.common import as_users_compile, run_cli, run_python
from tests.parallel.compiled_on_eight import config_of

ORDINARY = ("dp", "fsdp", "tensor", "fsdp x sequence", "fsdp x tensor")  # unrolled, no remat


def test_memory_is_that_of_shards_and_the_program_holds_what_shapes_say(eight):
    scales, matrices = 5 * 64, 2 * (4 * 64**2 + 2 * 64 * 128) + 2 * 256 * 64
    for name in ORDINARY:
        program, parts = eight[name], eight[name]["parts"]
        assert list(parts) == list(memory.PARTS)
        assert program["n_params_total"] == scales + matrices
        state = parts["params"] + parts["optimizer"]
        assert state == program["state"]
        assert 0 <= program["arguments"] - state - parts["batch"] < 200  # hyperparameters, steps
        assert program["total"] >= program["arguments"] + program["temporary"]
        within = sum(parts.values()) - state - parts["batch"]
        assert 0.9 < program["temporary"] / within < 1.8, name
    whole = 4 * (scales + matrices)
    assert eight["dp"]["parts"]["params"] == whole
    assert eight["dp"]["parts"]["optimizer"] == 2 * whole + 4
    assert eight["fsdp"]["state"] <= 1.05 * eight["dp"]["state"] / 8
    assert eight["tensor"]["parts"]["params"] == matrices + 4 * scales
    assert eight["fsdp, remat"]["temporary"] < eight["fsdp"]["temporary"], (
        "of three blocks, not two"
    )


def test_the_state_is_updated_in_place(config):
    """Donated: the program's results lie where its arguments lay."""
    for runs in (1, 2):
        programs = train_step.programs(config, runs)
        program = programs.jitted.lower(*ahead_of_time.arguments(config, programs)).compile()
        state = memory.shard_bytes(programs.state_like)
        assert program.memory_analysis().alias_size_in_bytes >= state, runs


def test_a_run_compiles_its_training_program_once(config, tmp_path, caplog):
    """Ahead, in a thread; the first call finds just that program."""
    config = config_lib.with_values(
        config, {"optim.beta1": 0.87, "train.tokens": 1280}
    )  # a new one
    for runs, made in ((1, {"train": 1, "readings": 1}), (2, {"apply": 2})):  # packed: both
        configs = [config_lib.with_values(config, {"seed": seed}) for seed in range(runs)]
        folders = [tmp_path / f"{runs}-{seed}" for seed in range(runs)]
        caplog.clear()
        with jax.log_compiles():
            train_lib.train_runs([RunSpec(*one) for one in zip(configs, folders, strict=True)])
        for name, times in made.items():
            lowered = [m for m in caplog.messages if m.startswith(f"Compiling jit({name}) ")]
            assert len(lowered) == times, (runs, name)


def test_flops_are_those_of_the_compiler_where_it_counts_right(eight):
    flops = accounting.flops_per_token(accounting.shape_of(config_of("dp")), "exact") * 8 * 48 / 8
    for name in ORDINARY:
        program = eight[name]
        assert program["flops"] == flops
        assert flops < program["flops_compiled"] < 1.15 * flops, name
        assert program["traffic"] > program["state"]
    assert eight["fsdp, remat"]["flops_compiled"] is None, "it counts a scan's body once"


def test_the_least_time_is_the_largest_of_three_terms(monkeypatch):
    program = ahead_of_time.Compiled(
        backend="gpu", mesh={"fsdp": 8}, n_params=1, n_params_total=1, parts={}, arguments=0,
        temporary=0,
        total=0, flops=4e9, flops_compiled=None, traffic=6e6, seconds=0.0,
        collectives=(
            Collective("all-reduce", "", "", bytes=2e3, group=8, times=2.0),
            Collective("collective-permute", "", "", bytes=1e3, group=2, times=1.0),
        ),
    )  # fmt: skip
    assert program.devices == 8 and program.sent == 2 * 3500 + 1000
    for speeds, seconds, bound in (
        ((1e12, 2e9, 4e6), 4e-3, "compute"),
        ((1e13, 2e9, 4e6), 3e-3, "memory"),
        ((1e13, 2e10, 4e6), 2e-3, "network"),
        ((1e13, 0.0, 0.0), 4e-4, "compute"),
    ):
        found = roofline.estimate(program, roofline.Speeds(*speeds))
        assert found == roofline.Estimate(pytest.approx(seconds), bound)
    assert roofline.estimate(program, roofline.Speeds(0.0, 2e9, 4e6)) is None

    class Chip:
        device_kind = "TPU v5 lite"

    assert roofline.speeds(3.0, bandwidth=2.0) == roofline.Speeds(
        3.0, 0.0, 2.0
    )  # CPUs are not known
    monkeypatch.setattr(jax, "devices", lambda: [Chip()])
    assert roofline.speeds(bandwidth=2.0) == roofline.Speeds(197e12, 8.2e11, 2.0)


# ---- what cannot fit


def with_memory(config, gigabytes: float, **values):
    changes = {k.replace("__", "."): v for k, v in values.items()}
    return config_lib.with_values(config, {"parallel.device_memory_gb": gigabytes, **changes})


def test_a_run_that_cannot_fit_is_refused_before_anything_is_written(config, tmp_path, capsys):
    total = ahead_of_time.compiled(config).total
    ahead_of_time.check_fits_memory(with_memory(config, total * 1.001 / 1e9))
    tight = with_memory(config, total * 0.999 / 1e9)
    with pytest.raises(UserError) as refused:
        train_lib.train_run(tight, tmp_path / "run")
    line = str(refused.value)
    assert line.startswith("config.parallel.device_memory_gb=0.000") and "\n" not in line
    assert "width 16, depth" in line and "on each of 2 devices; the largest by shapes: " in line
    assert "activations" in line and "config.model.remat='block'" in line
    hopeless = with_memory(config, 1e-6, model__remat="block", model__width=32)
    with pytest.raises(
        UserError, match=r"at least .* optimizer .* config\.parallel\.fsdp \(now 1\)"
    ):
        ahead_of_time.check_fits_memory(hopeless)
    sweep = config_lib.with_values(
        tight,
        {
            "sweep.kind": "grid",
            "sweep.grid_keys": ("optim.lr",),
            "sweep.grid_values": ((1e-3, 3e-3),),
        },
    )
    with pytest.raises(UserError, match="device_memory_gb"):
        runner.sweep(planner.plan(sweep), tmp_path, config=sweep)
    assert not list(tmp_path.rglob("*"))
    args = ["--config=configs/mini.py", f"--workdir={tmp_path}", "--config.sweep.kind=none"]
    assert cli.main(["train", *args, "--config.parallel.device_memory_gb=1e-6"]) == EXIT_BAD_INPUT
    assert "error: config.parallel.device_memory_gb=1e-06" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*"))


def test_what_the_device_says_is_the_limit_where_none_is_stated(config, monkeypatch):
    class Chip:
        device_kind = "chip"

        def memory_stats(self):
            return {"bytes_limit": 1000}

    assert ahead_of_time.memory_limit(config) == (0.0, "")  # a CPU says nothing
    monkeypatch.setattr(jax, "local_devices", lambda: [Chip()] * 2)
    assert ahead_of_time.memory_limit(config) == (1000.0, "chip with 1.0 kB")
    assert ahead_of_time.memory_limit(with_memory(config, 2.0))[0] == 2e9
    assert ahead_of_time.refusal(config).startswith("chip with 1.0 kB: width 16, depth")


def test_the_cpus_of_a_machine_share_its_memory(config, monkeypatch):
    parts = memory.parts(config, train_step.programs(config))
    both = int(2 * sum(parts.values()))  # two devices
    monkeypatch.setattr(machine, "memory_bytes", lambda: both)
    ahead_of_time.check_fits_memory(config)
    monkeypatch.setattr(machine, "memory_bytes", lambda: both - 2)
    with pytest.raises(
        UserError, match=r"this machine with .* needs at least .* each of 2 devices"
    ):
        ahead_of_time.check_fits_memory(config)
    ahead_of_time.check_all_fit_memory([planner.plan_run(config).values])  # before each run trains
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"this machine with 1.0 kB: .* on 2 devices together for"):
        ahead_of_time.check_all_fit_memory([planner.plan_run(config).values])


def test_packed_runs_count_together(config, tmp_path):
    """Two on each of two devices: twice the state of a run, with all tokens of its batch."""
    programs, packed = train_step.programs(config), train_step.programs(config, 4)
    one, four = memory.parts(config, programs), memory.parts(config, packed)
    for name in ("params", "optimizer", "gradients"):
        assert four[name] == 2 * one[name]
    for name in ("activations", "logits", "batch"):
        assert four[name] == 2 * 2 * one[name]
    program = ahead_of_time.compiled(config, 4)
    assert 0 <= program.arguments - four["params"] - four["optimizer"] - four["batch"] < 400
    between = (ahead_of_time.compiled(config).total + program.total) / 2e9
    tight = with_memory(config, between)
    ahead_of_time.check_fits_memory(tight)
    specs = [
        RunSpec(config_lib.with_values(tight, {"seed": s}), tmp_path / str(s)) for s in range(4)
    ]
    with pytest.raises(UserError, match=r"a lower config.launch.pack \(4 here\)"):
        train_lib.train_runs(specs)
    assert not list(tmp_path.rglob("*"))


def test_nothing_is_compiled_where_no_limit_is_known_or_shapes_settle_it(config, monkeypatch):
    def never(*_, **__):
        raise AssertionError("compiled")

    monkeypatch.setattr(ahead_of_time, "_compile", never)
    roomy = with_memory(config, 1.0, optim__eps=2e-8)  # another program than in the other tests
    ahead_of_time.check_fits_memory(roomy)
    with pytest.raises(UserError, match="at least"):
        ahead_of_time.check_fits_memory(with_memory(roomy, 1e-6))
    monkeypatch.setattr(train_step, "programs", never)
    ahead_of_time.check_all_fit_memory([planner.plan_run(config).values])


# ---- scaling plan --compile


def fake(config, programs):
    parts = dict.fromkeys(memory.PARTS, 0.0)
    return ahead_of_time.Compiled(
        "cpu", {"data": 2}, 1, 2, parts, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, (), 0.1
    )


def test_plan_compiles_each_program_once(capsys, monkeypatch):
    monkeypatch.setattr(ahead_of_time, "_compile", fake)
    monkeypatch.setattr(ahead_of_time, "_compiled", {})
    code = cli.main(["plan", "--config=configs/mini.py", "--compile", "--peak_flops=2e3", "--wide"])
    out = capsys.readouterr().out
    table = out[out.index("n_params  runs  ") :].splitlines()
    assert code == 0 and "least time" in table[0]
    assert [row.split()[3:5] for row in table[1:7]] == [["1", "3"]] * 6  # n_params, runs
    assert "2 ms compute" in table[1] and "none (data 2)" in table[1]
    assert "compiled by the CPU backend for 2 devices." in out
    assert "Chosen: attention chunked, matrix products flat, latency hiding as XLA has it." in out
    steps = sum(run.steps for run in planner.plan(config_lib.load("configs/mini.py")))
    assert "0 GFLOP/s (2 devices as stated)" in out
    assert f"all runs one after another take at least {units.duration(2e-3 * steps)}." in out
    assert "The largest total, by shapes: params 0 B, optimizer" in out
    assert len(ahead_of_time._compiled) == 6


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--devices=8"], "belongs to --compile"),
        (["--compile", "--devices=0"], "'0' is below 1"),
        (["--compile", "--devices=4", "--measure"], "give one of them"),
        (["--bandwidth=1e9"], "belongs to --compile"),
        (["--compile", "--peak_flops=fast"], "'fast' is not a number"),
    ],
)
def test_bad_flags_are_named(flags, said, capsys):
    assert cli.main(["plan", "--config=configs/mini.py", *flags]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert said in error and flags[-1].split("=")[0].removeprefix("--meas") in error


def test_a_larger_machine_is_planned_and_refused_where_it_is_too_small():
    small = ("model.width=32", "model.head_dim=8", "model.depth=1", "parallel.tensor=4")
    keys = [
        f"--config.{key}"
        for key in (*small, "train.batch_size=16", "parallel.device_memory_gb=1e-4")
    ]
    done = run_cli("plan", "--config=configs/base.py", "--compile", "--devices=8", "--wide", *keys)
    assert done.returncode == EXIT_BAD_INPUT, done.stderr
    assert "all-reduce" in done.stdout and "(data 2 x tensor 4)" in done.stdout
    assert "compiled by the CPU backend for 8 simulated devices" in done.stdout
    assert "No time, since the peak of these devices is not known" in done.stdout
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert "config.parallel.device_memory_gb=0.0001: width 32, depth 1" in line


@pytest.mark.slow
def test_weak_scaling_draws_what_it_compiled():
    """By a small model on two devices."""
    tiny = {"model.depth": 1, "model.width": 32, "model.head_dim": 8, "model.mlp_width": 64}
    code = (
        "import json\nfrom benchmarks import weak_scaling\nfrom scaling.utils import machine\n"
        f"machine.start_jax(2)\nweak_scaling.MODEL |= {tiny | {'data.seq_len': 16}}\n"
        "print(json.dumps(weak_scaling.rows(2)))"
    )
    done = run_python(code, env=as_users_compile())  # few optimizations leave loops
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout.splitlines()[-1])
    by_name = {row["series"]: row for row in rows}
    dp, fsdp, tensor = (by_name[name] for name in weak_scaling.STRATEGIES)
    n_params = 4 * 32**2 + 2 * 32 * 64 + 3 * 32 + 2 * 256 * 32
    assert dp["state_bytes"] == 3 * 4 * n_params + 4
    assert 4 * n_params <= dp["all-reduce_sent"] == dp["sent"] < 4 * n_params + 1000
    assert fsdp["state_bytes"] == dp["state_bytes"] / 2 + 2  # the counter is everywhere
    assert fsdp["all-gather_sent"] > 0 == tensor["all-gather_count"] < tensor["all-reduce_count"]
    assert dp["flops_exact"] == fsdp["flops_exact"] == tensor["flops_exact"]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    figure = weak_scaling.draw(columns)
    drawn = {axes.get_title(): len(axes.get_lines()) for axes in figure.axes}
    kinds = [sum(row[f"{kind}_sent"] > 0 for kind in collectives.KINDS) for row in rows]
    assert list(drawn.values()) == [*kinds, 3, 3, 3], drawn
    plt.close(figure)
