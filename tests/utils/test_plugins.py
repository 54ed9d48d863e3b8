"""Plugins: found, hashed, and refused in one line with nothing registered."""

from __future__ import annotations

import json
import sys

import pytest

from scaling import cli
from scaling.config import load as config_lib
from scaling.utils import plugins, registry
from scaling.utils.errors import UserError

PLUGIN = (
    "from scaling.utils.registry import MLPS\n"
    "@MLPS.register({name!r})\n"
    "def hidden(h):\n"
    "    return h[0] * {factor}\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder; what is imported and registered from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before, modules = registry.snapshot(), set(sys.modules)
    yield tmp_path
    registry.restore(before)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def forget(name: str) -> None:
    """Do as if no process had imported the plugin."""
    plugins._loaded.clear()
    registry.MLPS.entries.pop(name, None)
    for module in [m for m in sys.modules if m.partition(".")[0] == "my_study"]:
        del sys.modules[module]


def test_source_is_part_of_the_hash_and_files_know_the_folder(folder, monkeypatch):
    study = folder / "study" / "study.py"
    blocks = study.parent / "my_study" / "blocks.py"
    blocks.parent.mkdir(parents=True)
    study.write_text(
        "from scaling.configs import base\n"
        "def get_config():\n"
        "    c = base.get_config()\n"
        "    c.plugins, c.model.mlp = ('my_study.blocks',), 'twice'\n"
        "    return c\n"
    )
    blocks.write_text(PLUGIN.format(name="twice", factor=2))
    config = config_lib.load(str(study))
    written, first = config_lib.to_json(config), config_lib.run_hash(config)
    assert written["plugin_folders"] == [str(study.parent)]

    forget("twice")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(study.parent)])
    again = config_lib.from_json(json.loads(json.dumps(written)))
    assert again == config and config_lib.run_hash(again) == first

    forget("twice")
    blocks.write_text(PLUGIN.format(name="twice", factor=20))
    assert config_lib.run_hash(config_lib.load(str(study))) != first
    assert config_lib.sweep_hash(again) == config_lib.sweep_hash(config)


def test_no_plugins_leave_hashes_and_files_as_they_were(folder):
    config = config_lib.load("mini")
    assert "plugin_folders" not in config_lib.to_json(config)
    old = {k: v for k, v in config_lib.to_json(config).items() if k != "plugins"}
    assert config_lib.run_hash(config_lib.from_json(old)) == config_lib.run_hash(config)


@pytest.mark.parametrize(
    ("name", "source", "line"),
    [
        ("absent", None, r"cannot find absent; looked in PYTHONPATH, .*put its folder"),
        ("fails", "import json\nx = 1 / 0\n", r"fails fails .*ZeroDivisionError: .*line 2\)"),
        ("broken", "def f(:\n", "broken fails to import: SyntaxError"),
        ("needs", "import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_modu"),
        ("leaves", "raise SystemExit(3)\n", "leaves fails to import: SystemExit: 3"),
        ("known", PLUGIN.format(name="gelu", factor=1), "the name is taken by scaling"),
        ("twice", 2 * PLUGIN.format(name="two", factor=1), "'two' of plugin twice: the name is"),
        ("trait", PLUGIN.format(name="t", factor=1).replace("'t'", "'t', in_=2"), "no trait 'in_'"),
        ("nothing", "x = 1\n", "registers nothing"),
        ("not a name", None, "should be names of modules"),
    ],
)
def test_a_bad_plugin_is_one_line(folder, capsys, name, source, line):
    if source:
        (folder / f"{name}.py").write_text(source)
    before, path = registry.snapshot(), list(sys.path)
    with pytest.raises(UserError, match=rf"^config.plugins[^\n]*{line}[^\n]*$"):
        config_lib.load("mini", [f"--config.plugins=({name!r},)"])
    assert registry.snapshot() == before and sys.path == path and name not in sys.modules
    assert cli.main(["sweep", "--config=mini", "--workdir=w", f"--config.plugins={name}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (folder / "w").exists()


def test_a_name_of_no_plugin_is_refused_with_those_of_plugins(folder):
    (folder / "p.py").write_text(PLUGIN.format(name="twice", factor=2))
    with pytest.raises(UserError, match=r"choose one of gelu, swiglu, relu2, .*twice"):
        config_lib.load("mini", ["--config.plugins=p", "--config.model.mlp=thrice"])
