"""Test that a shell parses and runs the printed commands as intended."""

from __future__ import annotations

import shlex

from scaling import cli
from scaling.sweep.launchers import tpu
from tests.common import ROOT, run_cli


def test_every_line_is_a_command_that_a_shell_reads_back():
    workdir = "/shared/it's a sweep"
    lines = [line for line in tpu.commands(workdir, "launch7") if not line.startswith("#")]
    here, one, all_hosts = map(shlex.split, lines)
    assert here[1:] == ["-P", "-m", "scaling", "work", f"--workdir={workdir}", "--launch=launch7"]
    for words, worker in ((one, "0"), (all_hosts, "all")):
        assert words[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "$TPU_NAME"]
        assert f"--worker={worker}" in words and "--zone=$ZONE" in words
    # the command that ssh passes to the host's shell
    assert shlex.split(one[-1].removeprefix("--command=")) == here
    remote = shlex.split(all_hosts[-1].removeprefix("--command="))
    assert remote[0] == "env" and "TPU_PROCESS_BOUNDS=1,1,1" in remote
    assert remote[-len(here) :] == here


def test_sweep_prints_commands_that_a_shell_can_run(tmp_path, cache, capsys):
    """The line for any machine runs the sweep; the same command again finds it done."""
    flags = [
        f"--config={ROOT}/configs/mini.py",
        "--config.sweep.kind=data",
        "--config.sweep.tokens=(2560,)",
        f"--workdir={tmp_path / 'w'}",
    ]
    assert cli.main(["sweep", *flags, "--print_commands"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [x for x in lines if x.startswith("python3 -P -m scaling work")]
    arguments = shlex.split(line)
    done = run_cli(*arguments[4:])
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "w" / "runs").glob("*/result.json"))) == 1
