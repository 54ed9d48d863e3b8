"""One curve on every mesh: strategies on 8 simulated devices, resharded checkpoints, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from scaling import results
from scaling.config import load as config_lib
from scaling.parallel import mesh, sharding
from scaling.utils.errors import UserError
from tests.common import ROOT, run_cli, run_python
from tests.parallel import kinds_on_devices, on_devices


@pytest.fixture(scope="module")
def found(tmp_path_factory, cache) -> dict:
    """What `tests/parallel/on_devices.py` prints for 8 devices, then for one."""
    folder = tmp_path_factory.mktemp("resharded")
    merged: dict = {}
    for devices in ("8", "1"):
        done = subprocess.run(
            [sys.executable, "-m", "tests.parallel.on_devices", devices, str(folder)],
            cwd=ROOT, capture_output=True, text=True, timeout=500, env=os.environ,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        merged |= json.loads(done.stdout.splitlines()[-1])
    return merged


@pytest.mark.parametrize("name", [*on_devices.STRATEGIES, *on_devices.ALONE])
def test_every_strategy_gives_the_curve_of_one_device_from_the_same_bits(found, name):
    alone = found["alone"]
    assert alone["loss"][-1] < alone["loss"][0] - 1, "nothing was learned"
    assert len(found[name]["loss"]) == on_devices.STEPS
    np.testing.assert_allclose(found[name]["loss"], alone["loss"], rtol=1e-4)
    assert found[name]["init"] == alone["init"]


@pytest.mark.parametrize("name", ["8 x 1", "4 x 2", "one device"])
def test_a_checkpoint_of_two_by_four_goes_on_elsewhere(found, name):
    half = on_devices.STEPS // 2
    np.testing.assert_allclose(
        found[f"restored on {name}"]["loss"], found["alone"]["loss"][half:], rtol=1e-4
    )


def test_fsdp_holds_an_eighth_of_the_state_from_the_start(found):
    fsdp = found["fsdp 8"]
    assert fsdp["bytes_of_device"] <= fsdp["bytes"] / 8 * 1.05
    assert found["dp"]["bytes_of_device"] == found["dp"]["bytes"]
    # nor while it is made: no largest parameter, let alone all of them
    largest = max(whole for whole, _ in fsdp["params"].values()) * 4
    assert fsdp["bytes_of_initialisation"] < largest < found["dp"]["bytes"] / 4


def test_tensor_parallelism_splits_every_matrix(found):
    params = found["tensor 4 x data 2"]["params"]
    matrices = {k: v for k, v in params.items() if ".w_" in k or "_VD" in k or "w_" in k}
    assert len(matrices) == 5, params
    for path, (whole, part) in matrices.items():
        assert part * 4 == whole, path


def test_a_sweep_is_the_same_on_one_device_and_on_a_mesh(tmp_path, cache):
    grid = [
        "--config=configs/mini.py",
        "--config.sweep.kind=grid",
        "--config.sweep.grid_keys=('optim.lr',)",
        "--config.sweep.grid_values=((1e-3, 4e-3),)",
        "--config.model.width=16",
        "--config.model.head_dim=4",
        "--config.model.mlp_width=64",
        "--config.train.batch_size=8",
        "--config.train.tokens=8192",
        "--config.eval.tokens=2048",
    ]
    tables = []
    for name, values in {
        "one": ["cpu_devices=1"],
        "mesh": ["cpu_devices=8", "data=1", "fsdp=-1", "tensor=2"],
    }.items():
        parallel = [f"--config.parallel.{v}" for v in values]
        done = run_cli("sweep", *grid, *parallel, f"--workdir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        tables.append({r.run_id: r for r in results.collect(tmp_path / name)[0]})
    one, many = tables
    assert list(one) == list(many) and len(one) == 2
    for run_id, row in one.items():
        assert many[run_id].loss == pytest.approx(row.loss, rel=1e-4)


class Grid:
    """A mesh's sizes without devices."""

    def __init__(self, **sizes):
        self.shape = {**dict.fromkeys(mesh.AXES, 1), **sizes}


def sized(config, **parallel):
    return config_lib.with_values(config, {f"parallel.{k}": v for k, v in parallel.items()})


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"fsdp": 3}, "fsdp=3 does not make the 8 devices of this machine; fsdp=4 would"),
        ({"data": 2, "tensor": 2}, "data=2 x tensor=2 does not make the 8 .*; data=4 would"),
        ({"fsdp": -1}, "data and fsdp are all -1; .* set data=1"),
        ({"tensor": 0}, "config.parallel.tensor=0 should be 1 or more, or -1"),
    ],
)
def test_sizes_that_make_no_mesh(config, sizes, message):
    with pytest.raises(UserError, match=message):
        mesh.axis_sizes(sized(config, **sizes).parallel, 8)


def test_the_rest_of_the_devices(config):
    sizes = mesh.axis_sizes(sized(config, data=1, fsdp=-1, tensor=2).parallel, 8)
    assert sizes == {"replica": 1, "data": 1, "fsdp": 4, "sequence": 1, "tensor": 2}


@pytest.mark.parametrize(
    ("sizes", "values", "message"),
    [
        ({"data": 8}, {"train.batch_size": 12},
         "train.batch_size=12 .* 8 shards, data=8 .* is 16$"),
        ({"data": 8}, {"train.batch_size": 8, "train.accumulate": 2},
         "16 shards, data=8 .* times config.train.accumulate=2; .* is 16$"),
        ({"tensor": 4}, {}, r"model.width / model.head_dim=2 .* 4 shards, tensor=4 .* is 4$"),
        ({"tensor": 2}, {"model.kv_heads": 1}, "model.kv_heads=1 .* 2 shards, tensor=2 .* is 2$"),
        ({"sequence": 5}, {}, "data.seq_len=32 does not divide over 5 .* is 30$"),
        ({"fsdp": 3}, {"train.batch_size": 9, "eval.batch_size": 9}, "model.width=16 .* is 24$"),
        ({"fsdp": 4}, {"parallel.rules": (("heads", "fsdp"),)}, "head_dim=2 .* fsdp=4 .* is 4$"),
        ({"tensor": 2}, {"parallel.rules": (("qkv", "tensor"),)},
         r"rules: \('qkv', 'tensor'\): tensor=2 .* leave it whole, \('qkv', ''\)$"),
    ],
)  # fmt: skip
def test_what_a_mesh_does_not_divide(config, sizes, values, message):
    config = config_lib.with_values(config, {"train.batch_size": 8, "eval.batch_size": 8, **values})
    with pytest.raises(UserError, match=message):
        sharding.check_divides(config, sharding.rules(config.parallel), Grid(**sizes))


def test_what_a_rule_leaves_whole_need_not_be_divided(config):
    config = sized(config, rules=(("heads", ""), ("vocab", "")))
    values = {"data.tokenizer": "bpe", "data.vocab_size": 301, "model.mlp_width": 64}
    config = config_lib.with_values(config, values)
    sharding.check_divides(config, sharding.rules(config.parallel), Grid(tensor=4))
    with pytest.raises(UserError, match=r"model.mlp_width=66 .* is 64$"):
        whole = config_lib.with_values(config, {"model.mlp_width": 66})
        sharding.check_divides(whole, sharding.rules(whole.parallel), Grid(tensor=4))


def test_a_rule_of_the_config_replaces_one(config):
    grid = Grid(tensor=4)
    usual, other = (sized(config, rules=r).parallel for r in ((), (("vocab", ""), ("mlp", "fsdp"))))
    for parallel, places in ((usual, ("tensor", "tensor")), (other, (None, None))):
        by = sharding.rules(parallel)
        assert tuple(sharding.spec(("vocab", "embed"), by, grid)) == (places[0], None)
        assert tuple(sharding.spec(("embed", "mlp"), by, grid)) == (None, places[1])
    by = sharding.rules(other)
    assert tuple(sharding.spec(("embed", "mlp"), by, Grid(fsdp=2))) == ("fsdp", None), "used once"
    assert tuple(sharding.spec(("batch", "mlp"), by, Grid(data=2))) == (mesh.BATCH_AXES, None)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("mpl", "tensor"), "no logical axis 'mpl'; did you mean 'mlp'?"),
        (("mlp", "tensors"), "no mesh axis 'tensors'; did you mean 'tensor'?"),
        ("mlp", r"'mlp' should be two names"),
    ],
)
def test_rules_that_name_nothing(config, rule, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        sharding.rules(sized(config, rules=(rule,)).parallel)


def test_whole_sequences_are_not_asked_of_a_split_one(config):
    from scaling.models import ops

    with pytest.raises(UserError, match=r"model.attention='chunked' .* choose 'plain' or 'auto'"):
        ops.pick("chunked", kind="attention", backend="cpu", sequence_shards=4)


@pytest.mark.slow  # tests/fields trains every kind with its widths split
def test_every_kind_of_model_trains_alike_on_every_mesh(cache):
    """On 8 devices, 2 x 2 x 2 by fsdp, sequence and tensor or by experts, against 2 devices."""
    done = run_python(
        "from tests.parallel import kinds_on_devices; kinds_on_devices.main()", timeout=500
    )
    assert done.returncode == 0, done.stderr
    many = json.loads(done.stdout.splitlines()[-1])
    for kind, values in kinds_on_devices.KINDS.items():
        losses = kinds_on_devices.trained(values)[0]
        assert losses[-1] < losses[0] - 1, kind
        for name in (name for name in many if name.startswith(kind)):
            # a token between two experts may go to the other one where sums are rounded otherwise
            near = 1e-3 if kind == "experts" else 1e-4
            np.testing.assert_allclose(many[name][0], losses, rtol=near, err_msg=name)
    lru, lstm, routed, grouped = (
        many[f"{kind}, fsdp, sequence and tensor"][1]
        for kind in ("lru", "lstm", "experts", "grouped")
    )
    for name, parts in {"w_DHK": 4, "w_DNXK": 4, "b_HK": 2, "b_NXK": 2, "b_D": 2}.items():
        assert grouped[f"['blocks']['attention']['{name}']"] == parts, name
    assert lru["['blocks']['mixer']['w_DPS']"] == lru["['blocks']['mixer']['w_PSD']"] == 4
    assert lstm["['blocks']['mixer']['w_SZS']"] == 2, "whole over tensor"
    assert routed["['blocks']['experts']['w_EDGF']"] == 4
    by_rule = many["experts, experts over tensor"][1]
    assert by_rule["['blocks']['experts']['w_DE']"] == 4


def test_a_mesh_divides_what_the_kind_has(config):
    heads = config_lib.with_values(config, {"train.batch_size": 8, "eval.batch_size": 8})
    by, grid = sharding.rules(config.parallel), Grid(tensor=4)
    for kind in ("lstm", "cnn", "mlp"):  # its 2 heads would not divide
        whole = config_lib.with_values(heads, {"model.kind": kind, "model.width": 18})
        sharding.check_divides(whole, by, grid)
    with pytest.raises(UserError, match=r"model.width=18 .* tensor=4 .* is 16$"):
        whole = config_lib.with_values(heads, {"model.kind": "lru", "model.width": 18})
        sharding.check_divides(whole, by, grid)
    with pytest.raises(UserError, match=r"model.experts=6 .* tensor=4 .* is 8$"):
        rules = (("experts", "tensor"),)
        routed = sized(
            config_lib.with_values(heads, {"model.experts": 6, "model.width": 32}), rules=rules
        )
        sharding.check_divides(routed, sharding.rules(routed.parallel), grid)
