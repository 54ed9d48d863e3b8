"""Grids: settings and their seeds, the best of each key, a planted optimum, and what is not told
apart.
"""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest

from scaling.analysis import grid, registry, swept_keys
from scaling.config import load as config_lib
from scaling.utils import notices
from tests.analysis.known import row
from tests.common import ROOT

BEST_LR = 0.013


@pytest.fixture(scope="module")
def config():
    return config_lib.with_values(
        config_lib.load(str(ROOT / "configs" / "mini.py")),
        {"sweep.kind": "grid", "laws.bootstrap": 40},
    )


def trained(config, workdir, settings, noise=0.0, **lost):
    """Rows with their config.json: log loss is a bowl in log lr, and rises with weight decay and
    with mlp swiglu.
    """
    rng, rows = np.random.default_rng(0), []
    for number, values in enumerate(settings):
        lr, decay = values.get("optim.lr", 0.01), values.get("optim.weight_decay", 0.1)
        bowl = (
            0.03 * np.log(lr / BEST_LR) ** 2
            + 0.02 * decay
            + 0.1 * (values.get("model.mlp") == "swiglu")
        )
        loss = 2.0 * np.exp(bowl + noise * rng.standard_normal())
        own = (
            {"status": "diverged", "reason": "loss 40", "loss": None}
            if number in lost.get("lost", ())
            else {}
        )
        given = {
            "loss": float(loss),
            "lr": lr,
            "weight_decay": decay,
            "seed": values.get("seed", 0),
        } | own
        rows.append(row(number, **given))
        folder = workdir / "runs" / rows[-1].run_id
        folder.mkdir(parents=True)
        run = config_lib.to_json(config_lib.with_values(config, values))
        (folder / "config.json").write_text(json.dumps(run))
    return rows


def product(**axes):
    keys = [k.replace("__", ".") for k in axes]
    return [dict(zip(keys, v, strict=True)) for v in itertools.product(*axes.values())]


def test_settings_seeds_and_optimum(config, tmp_path):
    settings = product(
        optim__lr=(0.004, 0.0056, 0.008, 0.0113, 0.016, 0.0226, 0.032),
        optim__weight_decay=(0.0, 0.1),
        seed=(0, 1, 2),
    )
    found = grid.grid(trained(config, tmp_path, settings, noise=0.002), tmp_path, config)
    law = found.curves["swept"].law
    assert (
        law["best"]["setting"]["optim.weight_decay"] == 0.0
    )  # 0.1 costs as much as the noise of a seed
    assert law["best"]["setting"]["optim.lr"] in (0.0113, 0.016)
    assert law["best"]["seeds"] == 3
    assert 0.002 < law["noise_of_a_seed"] < 0.007
    assert [b["value"] for b in law["parameters"]["weight_decay"]["best"]] == [0.0, 0.1]
    optima = law["optima"]["lr"]
    assert len(optima) == 2  # one for each weight decay
    for o in optima:
        assert o["problem"] == "" and o["optimum"]["low"] < o["optimum"]["high"]
        assert o["optimum"]["value"] == pytest.approx(BEST_LR, rel=0.05)
    columns = found.curves["swept"].picture.columns
    setting = columns["series"] == "setting"
    assert setting.sum() == 14 and set(columns["count"][setting]) == {3}
    assert (columns["sd"][setting] > 0).all()
    registry.write(found, tmp_path, config)
    assert (tmp_path / "curves" / "swept.png").stat().st_size > 10_000


def test_keys_that_change_together_are_one_axis_and_text_has_its_places(config, tmp_path):
    settings = [
        {"model.width": w, "model.mlp_width": 4 * w, "model.mlp": m}
        for w in (16, 32)
        for m in ("relu2", "swiglu")
    ]
    found = grid.grid(trained(config, tmp_path, settings), tmp_path, config)
    keys = {name: p["keys"] for name, p in found.curves["swept"].law["parameters"].items()}
    assert keys == {"width": ["model.width", "model.mlp_width"], "mlp": ["model.mlp"]}
    assert found.curves["swept"].law["best"]["setting"]["model.mlp"] == "relu2"
    (picture,) = registry.write(found, tmp_path, config)
    assert "swiglu" in picture.with_suffix(".svg").read_text()


def test_random_draws_without_repeats_say_what_they_cannot(config, tmp_path):
    rng = np.random.default_rng(1)
    settings = [
        {"optim.lr": float(x), "optim.beta2": float(b)}
        for x, b in zip(np.exp(rng.uniform(-6, -3, 12)), rng.uniform(0.9, 0.99, 12), strict=True)
    ]
    rows = trained(config, tmp_path, settings, lost=(3,))
    found = grid.grid(rows, tmp_path, config)
    law = found.curves["swept"].law
    assert set(law["parameters"]) == {"lr", "beta2"}
    assert any("one seed per setting" in w for w in law["diagnostics"]["warnings"])
    assert list(map(str, found.left_out)) == ["run-3: diverged, loss 40"]
    columns = found.curves["swept"].picture.columns
    assert columns["lr"][columns["series"] == "diverged"] == pytest.approx(settings[3]["optim.lr"])
    assert all(o["problem"] for o in law["optima"]["lr"])  # each lr has another beta2


def test_best_at_the_edge_and_a_missing_config_are_said(config, tmp_path):
    rows = trained(config, tmp_path, product(optim__lr=(0.02, 0.04, 0.08), seed=(0, 1)), noise=1e-4)
    (tmp_path / "runs" / rows[-1].run_id / "config.json").unlink()
    found = grid.grid(rows, tmp_path, config)
    assert (
        "optim.lr=0.02: the best value is at the edge"
        in found.curves["swept"].law["diagnostics"]["warnings"][0]
    )
    assert any(row.kind == notices.NO_CONFIG for row in found.left_out)
    assert any("edge of the grid" in line for line in found.lines)


def test_the_best_batch_size_is_in_the_unit_of_its_key(config, tmp_path):
    settings = product(train__batch_size=(2, 4, 8, 16, 32))
    rows = trained(config, tmp_path, settings)
    for i, (run, values) in enumerate(zip(rows, settings, strict=True)):
        size = values["train.batch_size"]
        bowl = 2.0 * np.exp(0.03 * np.log(size / 8) ** 2)
        rows[i] = dataclasses.replace(run, batch_tokens=32 * size, loss=float(bowl))
    (optimum,) = grid.grid(rows, tmp_path, config).curves["swept"].law["optima"]["batch_size"]
    assert optimum["optimum"]["value"] == pytest.approx(8, rel=1e-3)


def test_axes_of_equal_last_name_keep_apart():
    base = config_lib.flatten(config_lib.base_config())
    settings = product(model__width=(16, 32), data__width=(8, 16), data__height=(8, 24))
    axes = swept_keys.axes([{**base, **values} for values in settings])
    assert {axis.name for axis in axes} == {"model.width", "data.width", "height"}


def test_crosses_of_diverged_runs_are_in_the_picture(config, tmp_path):
    settings = product(optim__lr=(0.004, 0.008, 0.016, 0.032, 0.5))
    found = grid.grid(trained(config, tmp_path, settings, lost=(4,)), tmp_path, config)
    picture = found.curves["swept"].picture
    low, high = picture.draw(picture.columns).axes[0].get_xlim()
    assert low < 0.004 and high > 0.5


def test_seeds_alone_are_one_setting(config, tmp_path):
    found = grid.grid(
        trained(config, tmp_path, product(seed=(0, 1, 2)), noise=0.01), tmp_path, config
    )
    assert found.curves["swept"].law["best"]["seeds"] == 3
    assert registry.write(found, tmp_path, config)[0].is_file()
