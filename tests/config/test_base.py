"""configs/base.py declares each key: meaning, unit, range, and old encodings that stay readable."""

from __future__ import annotations

import dataclasses

import pytest
from ml_collections import ConfigDict

from scaling.config import field_traits, key
from scaling.config import load as config_lib
from scaling.config.keys import ENCODED, KEYS
from scaling.configs import base
from scaling.utils.file_version import SCHEMA


def flaws(keys: dict[str, key.Key]) -> list[str]:
    """One line for each thing that a declaration leaves open or gets wrong."""
    lines = []
    for name, k in keys.items():
        number = k.type in (int, float) or k.whole
        stated = {
            "meaning": len(k.meaning.split()) > 1 or name in ("data.clean", "data.seq_len"),
            "unit": bool(k.unit) or not number,
            "range": k.range is not None or not (number or k.unit),
            "names": k.names in ("run", "sweep", "nothing"),
            "program": isinstance(k.program, bool),
            "since": k.since in range(1, SCHEMA + 1),
            "fields": set(k.fields) <= set(field_traits.UNITS),
        }
        lines += [f"{name}: no {what}" for what, is_stated in stated.items() if not is_stated]
        if problem := k.problem(k.default):
            lines.append(f"{name}: its default {k.default!r}{problem}")
        for value, old in k.old.items():
            if k.decode(old) != value or k.encode(value) != old or type(old) is not k.type:
                lines.append(f"{name}: {value!r} is not what {old!r} stands for")
    return lines


def test_every_key_of_base_states_its_meaning():
    assert len(KEYS) > 160
    assert flaws(KEYS) == []


GOOD = KEYS["optim.lr"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"meaning": ""}, "x: no meaning"),
        ({"unit": ""}, "x: no unit"),
        ({"range": None}, "x: no range"),
        ({"names": None}, "x: no names"),
        ({"program": None}, "x: no program"),
        ({"since": SCHEMA + 1}, "x: no since"),
        ({"fields": ("words",)}, "x: no fields"),
        ({"default": -1.0}, "x: its default -1.0 should be positive"),
        ({"default": 1}, "x: its default 1 should be of type float"),
        ({"default": None}, "x: its default None should be of type float"),
        ({"default": float("nan")}, "x: its default nan should be a finite number"),
        ({"old": {None: 0}}, "x: None is not what 0 stands for"),
    ],
)
def test_a_declaration_that_leaves_something_open_is_found(changes, line):
    assert flaws({"x": GOOD}) == []
    assert flaws({"x": dataclasses.replace(GOOD, **changes)}) == [line]


def test_a_choice_holds_its_default():
    wrong = key.choice("c", "a | b", "which of both", names="run", program=False, since=1)
    assert flaws({"x": wrong}) == ["x: its default 'c': choose one of a, b"]


def test_a_key_is_declared_once():
    section = key.Section()
    section.lr = GOOD
    with pytest.raises(AssertionError, match="lr is declared twice"):
        section.lr = GOOD


def test_keys_state_what_their_section_does_unless_they_differ():
    c = key.Section()
    c.model = key.Section(names="sweep", program=True, since=2)
    c.model.a = key.whole(1, "1", key.POSITIVE, "a number")
    c.model.b = key.whole(1, "1", key.POSITIVE, "a number", names="run", program=False, since=1)
    stated = {name: (k.names, k.program, k.since) for name, k in c.flat().items()}
    assert stated == {"model.a": ("sweep", True, 2), "model.b": ("run", False, 1)}


def test_defaults_are_a_locked_and_typed_config():
    c = base.get_config()
    assert isinstance(c, ConfigDict) and c.is_locked
    assert list(config_lib.flatten(c)) == sorted(KEYS)
    with pytest.raises(TypeError):
        c.model.depth = "deep"
    with pytest.raises(AttributeError):
        c.model.deph = 3
    c.optim.lr = 1
    assert type(c.optim.lr) is float
    c.launch.pack, c.launch.pack = 4, "auto"  # "auto" and numbers take each other's place
    c.data.max_chars = 7
    assert base.get_config().data.max_chars is None


def test_fields_have_units():
    assert KEYS["data.field"].choices == tuple(field_traits.UNITS)


def test_a_key_of_another_field_is_refused():
    overrides = ["--config.data.field=vision", "--config.data.dedupe=exact"]
    message = "config.data.dedupe='exact' is for language, not for config.data.field='vision'"
    with pytest.raises(config_lib.UserError, match=message):
        config_lib.load("configs/base.py", overrides)


@pytest.mark.parametrize("name", ENCODED)
def test_old_encodings_mean_the_same_everywhere(name, tmp_path):
    section, _, inner = name.partition(".")
    for value, old in ENCODED[name].old.items():
        study = tmp_path / "study.py"
        study.write_text(
            "from scaling.configs import base\ndef get_config():\n"
            f"    c = base.get_config()\n    c.{name} = {old!r}\n    return c\n"
        )
        stored = config_lib.to_json(config_lib.base_config())
        stored[section][inner] = old
        configs = [
            config_lib.load("configs/base.py", [f"--config.{name}={old}"]),
            config_lib.load("configs/base.py", [f"--config.{name}={value}"]),
            config_lib.load(str(study)),
            config_lib.with_values(config_lib.base_config(), {name: old}),
            config_lib.with_values(config_lib.base_config(), {name: value}),
            config_lib.from_json(stored),
        ]
        for config in configs:
            assert config[section][inner] == value
            # files keep the old encoding: an older program reads them, and means the same
            written = config_lib.to_json(config)[section][inner]
            assert written == old and type(written) is type(old)
        assert len({(config_lib.run_hash(c), config_lib.sweep_hash(c)) for c in configs}) == 1
