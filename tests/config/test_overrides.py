"""`--config.key=value`: the accepted forms, and a line that names them for a wrong value."""

from __future__ import annotations

import pytest

from scaling.config import load as config_lib
from scaling.utils.errors import UserError
from scaling.utils.parse import BOOLEAN_FORMS, NUMBER_FORMS, WHOLE_FORMS
from tests.common import ROOT


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.tokens=1e6", 1_000_000),
        ("train.tokens=1_000_000", 1_000_000),
        ("train.tokens=1M", 1_000_000),
        ("train.tokens=2.5B", 2_500_000_000),
        ("train.tokens= 100000 ", 100_000),
        ("optim.lr=3e-3", 0.003),
        ("optim.lr=1", 1.0),
        ("optim.lr=5.", 5.0),
        ("sweep.optimum_guess=20k", 20_000.0),
        ("model.qk_norm", True),
        ("model.qk_norm=true", True),
        ("model.qk_norm=YES", True),
        ("model.qk_norm=1", True),
        ("model.qk_norm=t", True),
        ("checkpoint.asynchronous=no", False),
        ("checkpoint.asynchronous=False", False),
        ("checkpoint.asynchronous=0", False),
        ("model.mlp=gelu", "gelu"),
        ("data.hash=2e5", "2e5"),
        ("data.hash=None", None),
        ("data.hash=", None),
        ("data.pattern=", ""),
        ("data.path=none", "none"),
        ("eval.every_tokens=None", None),
        ("eval.every_tokens=none", None),
        ("eval.every_tokens=1M", 1_000_000),
        ("launch.pack=auto", "auto"),
        ("launch.pack=8", 8),
        ("model.loss_chunk=None", None),
        ("model.loss_chunk=auto", "auto"),
        ("model.loss_chunk=64", 64),
        ("parallel.device_memory_gb=80", 80.0),
        ("parallel.data=-1", -1),
        ("sweep.budgets=(1e11, 2e11)", (1e11, 2e11)),
        ("sweep.budgets=[1e11,2e11]", (1e11, 2e11)),
        ("sweep.budgets=1e11,2e11", (1e11, 2e11)),
        ("sweep.budgets=1e11", (1e11,)),
        ("sweep.tokens=1M,2.5M", (1_000_000, 2_500_000)),
        ("sweep.tokens=(1M, 2M)", (1_000_000, 2_000_000)),
        ("sweep.seeds=()", ()),
        ('sweep.grid_keys=("optim.lr",("model.width","model.depth"))',
         ("optim.lr", ("model.width", "model.depth"))),
        ("sweep.grid_keys=optim.lr", ("optim.lr",)),
    ],
)  # fmt: skip
def test_values_are_taken_as_people_write_them(override, expected):
    (value,) = config_lib.parse_overrides([f"--config.{override}"]).values()
    assert value == expected and type(value) is type(expected)


def test_the_last_value_counts_and_tuples_are_joined():
    repeated = ["--config.seed=1", "--config.sweep.seeds=0", "--config.seed=3"]
    values = config_lib.parse_overrides([*repeated, "--config.sweep.seeds=1"])
    assert values == {"seed": 3, "sweep.seeds": (0, 1)}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.tokens=1.5", f"'1.5' is not {WHOLE_FORMS}"),
        ("train.tokens=", f"'' is not {WHOLE_FORMS}"),
        ("train.tokens=None", f"'None' is not {WHOLE_FORMS}"),
        ("optim.lr=fast", f"'fast' is not {NUMBER_FORMS}"),
        ("optim.lr=auto", f"'auto' is not {NUMBER_FORMS}"),
        ("model.qk_norm=maybe", f"'maybe' is not {BOOLEAN_FORMS}"),
        ("launch.pack=many", f"'many' is not {WHOLE_FORMS}, or auto"),
        ("launch.pack=None", f"'None' is not {WHOLE_FORMS}, or auto"),
        ("model.loss_chunk=all", f"'all' is not {WHOLE_FORMS}, or None, or auto"),
        ("eval.every_tokens=never", f"'never' is not {WHOLE_FORMS}, or None"),
        ("sweep.tokens=(1M,few)", f"'few' is not {WHOLE_FORMS}"),
        ("sweep.grid_keys=(optim.lr, ", "'(optim.lr, ' is not a tuple: (1e11, 2e11) or 1e11,2e11"),
    ],
)
def test_wrong_values_name_the_key_the_value_and_the_forms(override, message):
    with pytest.raises(UserError) as caught:
        config_lib.load("configs/base.py", [f"--config.{override}"])
    assert str(caught.value) == f"--config.{override}: {message}"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lrr=1", "--config.optim.lrr: no such key; did you mean config.optim.lr?"),
        ("zzz=1", "--config.zzz: no such key; see configs/base.py"),
        ("optim=1", "--config.optim: no such key; did you mean config.optim"),
        ("seed", "--config.seed: its value is missing; write --config.seed=VALUE"),
    ],
)
def test_wrong_keys_name_the_nearest(override, message):
    with pytest.raises(UserError) as caught:
        config_lib.load("configs/base.py", [f"--config.{override}"])
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_an_override_reaches_the_keys_that_refer_to_it(tmp_path):
    study = tmp_path / "study.py"
    study.write_text(
        "from scaling.configs import mini\n\n\ndef get_config():\n    c = mini.get_config()\n"
        "    c.eval.tokens = c.train.get_ref('tokens') // 4\n    return c\n"
    )
    assert config_lib.load(str(study), ["--config.train.tokens=8192"]).eval.tokens == 2048


def test_an_open_bracket_is_refused():
    with pytest.raises(UserError, match="is not a tuple"):
        config_lib.load(str(ROOT / "configs" / "mini.py"), ["--config.sweep.budgets=(1e8,3e8"])
