"""Studies by name and by file, what they may import, and what they raise on one line."""

from __future__ import annotations

import sys

import pytest

from scaling.config import load as config_lib
from scaling.config.hashing import sweep_hash
from scaling.utils.errors import UserError
from tests.common import ROOT

NAMES = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("name", NAMES)
def test_a_bare_name_is_the_shipped_study_in_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # such as a folder of results
    assert sweep_hash(config_lib.load(name)) == sweep_hash(
        config_lib.load(f"{ROOT}/configs/{name}.py")
    )


def test_a_bare_name_takes_an_argument():
    assert config_lib.load("sweeps:grid").name == "grid"


@pytest.mark.parametrize(
    "name, end",
    [
        ("quikstart", "did you mean --config=quickstart?"),
        ("Mini", "did you mean --config=mini?"),
        ("configs/nanod.py", "did you mean --config=nanodo?"),
        ("sweep:ladder", "did you mean --config=sweeps?"),
        ("zzz", f"shipped are {', '.join(NAMES)}"),
        ("x" * 5000, f"shipped are {', '.join(NAMES)}"),
        ("a\0b", f"shipped are {', '.join(NAMES)}"),
        (".", f"shipped are {', '.join(NAMES)}"),
    ],
)
def test_an_unknown_name_has_the_nearest_one(name, end, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refusal:
        config_lib.load(name)
    line = str(refusal.value)
    assert line.startswith(f"--config={name.split(':')[0]}: no such file") and line.endswith(end)


def test_a_study_imports_the_modules_beside_it_but_none_in_place_of_an_installed_one(tmp_path):
    (tmp_path / "sizes_of_mine.py").write_text("WIDTH = 48\n")
    (tmp_path / "tqdm.py").write_text("raise SystemExit('not the installed one')\n")
    study = tmp_path / "study.py"
    study.write_text(
        "import tqdm\nimport sizes_of_mine\nfrom scaling.configs import mini\n\n\n"
        "def get_config():\n    c = mini.get_config()\n    c.model.width = sizes_of_mine.WIDTH\n"
        "    return c\n"
    )
    before = list(sys.path)
    assert config_lib.load(str(study)).model.width == 48
    assert sys.path == before


@pytest.mark.parametrize(
    "text, message",
    [
        ("def get_config():\n    raise ValueError('no size')\n", "line 2: ValueError: no size"),
        ("def get_config():\n    return {}['a']\n", "line 2: KeyError: 'a'"),
        ("def get_config():\n    return None\n", "get_config() returned NoneType; return a Config"),
        ("def get_config():\n    return 3\n", "get_config() returned int; return a ConfigDict"),
        ("def get_config():\n    raise SystemExit(3)\n", "line 2: SystemExit: 3"),
        ("import sys\nsys.exit()\n", "line 2: SystemExit"),
        ("def get_config():\n    raise BaseException('x\\ny')\n", "line 2: BaseException: x y"),
        ("def get_config():\n    return get_config()\n", "line 2: RecursionError"),
        ("def get_config(name):\n    return name\n", "missing 1 required positional argument"),
        ("get_config = 7\n", "TypeError: 'int' object is not callable"),
        ("def get_config(:\n", "invalid syntax"),
        ("x = 1\n", "get_config"),
        ("\0", "null bytes"),
        ("from configs import base\n", "write `from scaling.configs import ...`"),
    ],
)
def test_a_study_that_fails_is_one_plain_line(tmp_path, text, message, monkeypatch):
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(ROOT)])
    monkeypatch.delitem(sys.modules, "configs", raising=False)
    study = tmp_path / "study.py"
    study.write_text(text)
    with pytest.raises(UserError) as refusal:
        config_lib.load(str(study))
    line = str(refusal.value)
    assert line.startswith(f"{study}: ") and message in line
    assert "Traceback" not in line and "\n" not in line


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "Preempted('SIGTERM')"])
def test_a_signal_in_a_study_ends_the_program(tmp_path, error):
    study = tmp_path / "study.py"
    study.write_text(f"from scaling.utils.errors import Preempted\nraise {error}\n")
    with pytest.raises(BaseException) as stop:
        config_lib.load(str(study))
    assert type(stop.value).__name__ == error.split("(")[0]
