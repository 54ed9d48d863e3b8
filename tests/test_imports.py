"""Who may import whom, and what stays lazy."""

from __future__ import annotations

import ast

import pytest

from tests.conftest import ROOT, run_python

FORBIDDEN = {
    "scaling/laws": ("models", "data", "train", "sweep", "checkpoint", "step", "config", "results"),
    "scaling/models": ("data", "train", "sweep", "config", "files", "cli", "step", "results"),
    "scaling/metrics": (
        "models",
        "data",
        "train",
        "sweep",
        "step",
        "config",
        "results",
        "laws",
        "optim",
    ),
    "scaling/data": ("models", "train", "sweep", "step", "laws"),
    "scaling/train.py": ("sweep", "laws", "curves", "study", "cli"),
    "scaling/step.py": ("sweep", "laws", "data", "train", "checkpoint"),
    "scaling/sweep": ("models", "laws", "curves", "study", "cli", "step"),
    "scaling/kinds": ("models", "data", "train", "sweep", "step", "study", "cli"),
    "scaling/report": ("train", "sweep", "models", "data", "cli"),
}


def imported(path) -> set[str]:
    """Modules of this project that a file imports, as dotted names below `scaling`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return {m.removeprefix("scaling.") for m in found if m.startswith("scaling.")}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_import_only_what_they_may(room):
    files = [ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        for module in imported(file):
            assert module.split(".")[0] not in FORBIDDEN[room], f"{file}: imports {module}"


def test_the_library_never_imports_its_users():
    for file in (ROOT / "scaling").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] not in ("experiments", "notebooks", "tests", "benchmarks")
                assert name != "scaling.cli" or file.name == "__main__.py"


def test_no_import_cycles():
    modules = {
        str(f.relative_to(ROOT / "scaling").with_suffix("")).replace("/", "."): f
        for f in (ROOT / "scaling").rglob("*.py")
    }
    graph = {m: {i for i in imported(f) if i in modules} for m, f in modules.items()}
    done, path = set(), []

    def visit(module):
        assert module not in path, f"cycle: {' -> '.join([*path, module])}"
        if module in done:
            return
        path.append(module)
        for other in sorted(graph[module]):
            visit(other)
        path.pop()
        done.add(module)

    for module in graph:
        visit(module)


def test_help_and_laws_stay_light():
    code = (
        "import sys, contextlib, io\n"
        "from scaling import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    cli.main(['--help'])\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'jax', 'numpy', 'tensorflow', 'torch'}))\n"
        "import scaling.laws\n"
        "print('scaling.config' in sys.modules, 'flax' in sys.modules)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["", "False False"]


def test_a_look_at_a_sweep_needs_nothing_that_trains_fits_or_draws():
    done = run_python(
        "import sys\n"
        "import scaling.status, scaling.report.stored\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & {'jax', 'flax', 'scipy', 'matplotlib'}))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
