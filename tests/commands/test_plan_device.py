"""`scaling plan --device`: hours, price, memory and kernels of devices that are not here."""

from __future__ import annotations

import json

import pytest

from scaling.config import load as config_lib
from scaling.configs import base
from scaling.programs import ahead_of_time, memory, train_step
from scaling.utils import devices
from scaling.utils.errors import EXIT_BAD_INPUT, UserError
from tests.commands.common import assert_refused, call

PLAN = "plan --config=configs/mini.py"
ON = f"{PLAN} --device=h100 --count=2 --price=2.5"
BAD = {
    f"{PLAN} --device=h1000": "--device=h1000: unknown device; did you mean h100?",
    f"{PLAN} --device=h1000 --count=8": "--peak_flops",
    f"{PLAN} --device=abacus": "unknown device; known are a100-40, a100-80",
    f"{PLAN} --device=h100 --count=0": "--count: '0' is below 1",
    f"{PLAN} --device=h100 --count=1.5": "--count: '1.5'",
    f"{PLAN} --device=h100 --count=5000": "no more than 4,096",
    f"{PLAN} --device=h100 --price=-1": "--price: '-1' is not positive",
    f"{PLAN} --device=h100 --mfu=40": "--mfu=40 is a share of the peak",
    f"{PLAN} --count=2": "--device is missing",
    f"{PLAN} --device=h100 --measure": "--measure=True is for this machine",
    f"{PLAN} --device=h100 --compile": "--compile=True is for this machine",
}


@pytest.mark.parametrize(("line", "words"), BAD.items(), ids=BAD)
def test_bad_input_is_one_line(capsys, line, words):
    assert_refused(capsys, line, words)


def test_hours_price_and_memory_of_other_devices(capsys):
    code, out, _ = call(capsys, *ON.split(), "--mfu=0.5", "--json")
    plan = json.loads(out)
    assert code == 0
    assert plan["seconds"] == pytest.approx(plan["flops"] / (2 * 494.5e12 * 0.5))  # TF32
    assert plan["dollars"] == pytest.approx(plan["hours"] * 2 * 2.5)
    assert plan["plan_device"]["precision"] == "tf32" and plan["plan_device"]["source"]
    by_run = plan["memory_by_run"]
    assert {run["run_id"] for run in plan["runs"]} == set(by_run)
    assert all(one["fits"] == "yes" and one["memory_bytes"] > 0 for one in by_run.values())
    code, again, _ = call(capsys, *ON.split(), "--mfu=0.5", "--json")
    assert again == out

    stated = ("--peak_flops=1e15", "--count=2", "--json")
    plan = json.loads(call(capsys, *PLAN.split(), *stated)[1])
    assert plan["peak_flops"] == 2e15 and plan["dollars"] is None
    assert {row["fits"] for row in plan["memory"]} == {"not known"}


def test_text_names_kernels_precision_and_merged_rungs(capsys):
    keys = (
        "--config.model.dtype=bfloat16",
        "--config.model.attention=auto",
        "--config.sweep.heads=1",
        "--config.sweep.width_multiple=8",
        "--config.sweep.width_ratio=1.2",
    )
    code, out, _ = call(capsys, *ON.split(), *keys, "--config.sweep.sizes_per_budget=2")
    assert code == 0, out
    assert "bfloat16 on 2 x h100: 989 TFLOP/s each (bf16)" in out
    assert "attention cudnn" in out and "dollars at 2.5 each" in out
    assert "round to the width of another; raise config.sweep.width_ratio=1.2" in out


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--usd=1e-9", "--usd=1e-09: the plan needs"),
        ("--time=0.000001s", "--time=1e-06s: the plan needs"),
        ("--flops=1e6", "--flops=1e+06: the plan needs"),
        ("--config.parallel.device_memory_gb=1e-4", "config.parallel.device_memory_gb=0.0001: "),
    ],
)
def test_what_exceeds_a_limit_is_refused_after_its_table(capsys, flag, words):
    code, out, err = call(capsys, *ON.split(), flag)
    assert code == EXIT_BAD_INPUT and "device-hours" in out
    assert err.count("\n") == 1 and words in err, err
    if "memory" in flag:
        assert "  no\n" in out and "config.model.remat='block'" in err


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("NVIDIA A100 80GB PCIe", "a100-80"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("TPU v5 lite", "tpu-v5e"),
        ("TPU v5", "tpu-v5p"),
        ("NVIDIA A10G", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("cpu", None),
    ],
)
def test_jax_kinds_are_known_by_whole_words(kind, name):
    known = devices.of_kind(kind)
    assert (known.name if known else None) == name


def test_every_device_has_its_peaks_memory_and_source():
    names = [device.name for device in devices.DEVICES]
    assert len(set(names)) == len(names)
    for device in devices.DEVICES:
        assert devices.named(device.name.upper()) is device
        assert device.source.startswith("https://") and 1e10 < device.memory < 2e11
        for dtype in ("float32", "bfloat16"):
            assert 8e12 <= device.peak(dtype)[0] <= 2.25e15
    assert devices.named("v5e").name == "tpu-v5e" and devices.named("RTX 4090").name == "rtx-4090"
    assert devices.named("v100").peak("bfloat16") == (15.7e12, "fp32")
    with pytest.raises(UserError, match="did you mean b200"):
        devices.named("b2000")


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model.remat": "block", "model.scan_layers": True},
        {"model.attention": "plain", "model.mlp": "swiglu"},
    ],
    ids=["plain MLP", "remat", "swiglu"],
)
@pytest.mark.parametrize(("width", "depth"), [(64, 2), (128, 4), (256, 4)])
def test_memory_by_shapes_is_within_15_percent_of_the_compiled(width, depth, values):
    sizes = {"model.width": width, "model.depth": depth, "model.mlp_width": 4 * width}
    short = {"train.steps_per_dispatch": 2, "train.log_every": 1}
    config = config_lib.with_values(base.get_config(), {**sizes, **short, **values})
    program = ahead_of_time.compiled(config)
    estimate = memory.estimate(config, train_step.programs(config), program.parts)
    assert estimate == pytest.approx(program.total, rel=0.15)
