"""Flags of every command: two spellings, unknown ones, values, help, completion."""

from __future__ import annotations

import pytest

import scaling
from scaling import cli
from scaling.commands import command_line, flag_parser, output
from scaling.utils.errors import (
    EXIT_BAD_INPUT,
    EXIT_INCOMPLETE,
    EXIT_LOST_PEER,
    EXIT_PREEMPTED,
    UserError,
)
from tests.commands.common import assert_refused
from tests.common import ROOT, run_python

FLAGS = [
    (name, flag)
    for name in command_line.COMMANDS
    for flag in command_line._command_parser(name)._option_string_actions
    if flag.startswith("--") and "_" in flag
]


def parsed(*argv: str):
    return command_line.parse(argv)


@pytest.mark.parametrize(("command", "flag"), FLAGS, ids=["".join(pair) for pair in FLAGS])
def test_dashes_and_underscores_spell_the_same_flag(command, flag):
    tables = {"gain": ["a.csv"], "sample": ["run"]}.get(command, [])
    action = command_line._command_parser(command)._option_string_actions[flag]
    value = "" if action.nargs == "?" else "=3"
    made = [
        vars(parsed(command, *tables, f"{name}{value}"))[action.dest]
        for name in (flag, "--" + flag[2:].replace("_", "-"))
    ]
    assert made[0] == made[1] and made[0] not in (None, action.default)


UNKNOWN = {
    "fit t.csv --n_parms=N": "--n_parms: no such flag; did you mean --n_params? usage: scaling fit",
    "fit t.csv --n-parms=N": "--n-parms: no such flag; did you mean --n_params? usage: scaling fit",
    "train --confg=c.py": "--confg: no such flag; did you mean --config? usage: scaling train",
    "gain a.csv --qqqqq": "--qqqqq: no such flag; usage: scaling gain CSV...",
    "status --json extra": "unrecognized arguments: extra; usage: scaling status",
    "fti t.csv": "fti: no such command; did you mean `scaling fit`? usage: scaling COMMAND",
    "xyzzy": "xyzzy: no such command; usage: scaling COMMAND [--flag=value ...], with one of plan,",
    "--fit": "--fit: no such flag; usage: scaling COMMAND",
    "": "no command; usage: scaling COMMAND [--flag=value ...]",
    "status --w=3": "--w: could be --workdir, --watch",
}


@pytest.mark.parametrize(("line", "words"), UNKNOWN.items(), ids=UNKNOWN)
def test_an_unknown_name_is_one_line_with_the_nearest_one_and_the_usage(capsys, line, words):
    assert_refused(capsys, line, words)


def test_overrides_stand_anywhere():
    key = "--config.seed=1"
    for at in range(4):
        words = ["plan", "--workdir=W", "--measure"]
        words.insert(at, key)
        args = parsed(*words)
        assert args.overrides == [key] and args.workdir == "W" and args.measure is True


def test_unique_beginnings_keep_working():
    args = parsed("fit", "t.csv", "--boot=20", "--fo=power", "--see", "D")
    assert (args.bootstrap, args.form, args.seed, args.format) == (20, "power", "D", None)
    assert parsed("design", "--form=kaplan").forms == "kaplan"


@pytest.mark.parametrize("text", ["1000000", "1_000_000", "1e6", "1M", "0.001B"])
def test_whole_numbers_as_people_write_them(text):
    assert parsed("fit", "t.csv", f"--bootstrap={text}").bootstrap == 1_000_000
    assert parsed("design", f"--max-runs={text}").max_runs == 1_000_000


@pytest.mark.parametrize("text", ["true", "yes", "1", "True"])
def test_switches_as_people_write_them(text):
    wrong = {"true": "false", "yes": "no", "1": "0", "True": "FALSE"}[text]
    assert parsed("fit", f"--linear={text}", "t.csv").linear is True
    assert parsed("fit", f"--linear={wrong}", "t.csv").linear is False
    args = parsed("fit", "--linear", "t.csv")
    assert args.linear is True and args.table == ["t.csv"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("10min", 600), ("2h", 7200), ("3d", 259_200)]
)
def test_durations(text, seconds):
    assert parsed("plan", f"--time={text}").time == seconds


def test_a_wrong_value_names_the_flag_the_value_and_the_forms():
    with pytest.raises(UserError) as error:
        parsed("fit", "t.csv", "--bootstrap=many")
    forms = "1000000, 1_000_000, 1e6, 1M or 2.5B"
    assert str(error.value) == f"--bootstrap: 'many' is not a whole number: {forms}"
    with pytest.raises(UserError, match="--all: 'maybe' is not true, false, yes, no, 1 or 0"):
        parsed("status", "--all=maybe")
    with pytest.raises(UserError, match="--bootstrap: expected one argument"):
        parsed("fit", "t.csv", "--bootstrap")


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_help_has_an_example_of_two_lines_that_parses(capsys, name):
    command = command_line.COMMANDS[name]
    assert "\n" not in command.HELP
    lines = command.EXAMPLE.splitlines()
    assert len(lines) == 2
    for line in lines:
        first, *words = line.split()
        assert first == "scaling" and words[0] == name
        assert parsed(*words).run is command.run
    with pytest.raises(SystemExit) as end:
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0 and all(line in out for line in lines)
    if name != "work":
        assert parsed(*lines[0].split()[1:], "--json").json is True
        assert output.format_of(parsed(*lines[0].split()[1:], "--format=latex")) == "latex"


def test_help_names_commands_and_exit_codes(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert all(f"    {name}" in out for name in command_line.COMMANDS)
    codes = [line.split()[0] for line in out[out.index("exit codes:") :].splitlines()[1:6]]
    assert codes == ["0", "2", "3", "69", "75"]


def test_the_page_of_commands_names_commands_codes_and_public_names():
    page = (ROOT / "docs" / "commands.md").read_text()
    for name in (*command_line.COMMANDS, *output.FORMATS, *scaling.__all__):
        assert name in page, name
    for code in (EXIT_BAD_INPUT, EXIT_INCOMPLETE, EXIT_LOST_PEER, EXIT_PREEMPTED):
        assert f"\n| {code} |" in page, code


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"scaling {scaling.__version__}\n"


@pytest.mark.parametrize("flag", ["--print-completion", "--print_completion"])
@pytest.mark.parametrize("shell", command_line.SHELLS)
def test_completion_knows_commands_and_flags(capsys, shell, flag):
    with pytest.raises(SystemExit) as end:
        cli.main([flag, shell])
    out = capsys.readouterr().out
    assert end.value.code == 0 and "conventions" in out and "drop_highest" in out


def test_public_names_load_when_they_are_used():
    done = run_python(
        "import sys, scaling\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'jax', 'numpy', 'scipy'}))\n"
        "print(set(scaling.__all__) <= set(dir(scaling)))\n"
        "from scaling.laws import api\n"
        "names = [n for n in scaling.__all__ if n[0] != '_' and n != 'load']\n"
        "print(all(getattr(scaling, n) is getattr(api, n) for n in names))\n"
        "from scaling import fit, Objective, cli\n"
        "print(hasattr(scaling, 'nothing_of_this_name'))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["", "True", "True", "False"]


def test_flags_that_came_later_take_no_beginnings():
    for name in flag_parser.WHOLE_NAMES_ONLY:
        with pytest.raises(UserError, match=r"no such flag|could be"):
            parsed("plan", name[:-1])


def test_an_empty_number_is_an_unset_flag(capsys):
    flags = ["--devices=", "--peak_flops=", "--budget="]
    assert cli.main(["plan", "--config=configs/mini.py", *flags]) == 0
    assert "18 runs" in capsys.readouterr().out
