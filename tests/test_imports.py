"""Which package may import which, and which modules a light command leaves unloaded."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.common import ROOT, run_python

# Lowest first. A package imports only from lower levels, lazy imports included.
LEVELS = (
    ("utils",),
    ("config", "data", "laws", "metrics", "models", "results"),
    ("accounting", "recipes", "report"),
    ("analysis", "fields", "parallel"),
    ("programs", "sweep.shared"),
    ("sweep.launchers", "sweep.plan", "training"),
    ("export", "sweep.execute"),
    ("study",),
    ("commands",),
    ("cli",),
)
LEVEL = {package: level for level, packages in enumerate(LEVELS) for package in packages}
ROOT_MODULES = {"__init__", "__main__", "accounting", "cli", "results"}
OUTSIDE = ("experiments", "notebooks", "tests", "benchmarks")  # users of the library


def modules_of(root: Path) -> dict[str, Path]:
    """Dotted name below `scaling` -> file, without the empty `__init__` files."""
    return {
        ".".join(f.relative_to(root).with_suffix("").parts): f
        for f in sorted(root.rglob("*.py"))
        if f.name != "__init__.py"
    }


def package_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "sweep" else parts[0]


def imports_of(file: Path) -> set[str]:
    """Dotted names that a file imports anywhere, `from a import b` as both `a` and `a.b`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def names_of(root: Path) -> dict[str, str]:
    """Dotted name below `scaling` of each module and folder -> its package."""
    modules = modules_of(root)
    folders = {".".join(m.split(".")[:i]) for m in modules for i in range(1, m.count(".") + 1)}
    return {name: package_of(name) for name in (*modules, *folders)}


def loaded_by_name(file: Path) -> set[str]:
    """Modules that a file loads by `import_module("...")` or `__import__("...")`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and node.args:
            function = node.func
            called = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
            if called in ("import_module", "__import__"):
                text = node.args[0]
                start = text.values[0] if isinstance(text, ast.JoinedStr) else text
                names |= {start.value.rstrip(".")} if isinstance(start, ast.Constant) else set()
    return names


def problems(root: Path) -> list[str]:
    """One line for each import that the levels forbid."""
    modules, packages, lines = modules_of(root), names_of(root), []
    for module, file in modules.items():
        package = package_of(module)
        if module == "__main__":
            continue
        if package not in LEVEL:
            lines.append(f"{module}: package {package!r} has no level")
            continue
        for name in imports_of(file) | loaded_by_name(file):
            if name.split(".")[0] in OUTSIDE:
                lines.append(f"{module} imports {name}")
            imported = name.removeprefix("scaling.")
            if not name.startswith("scaling.") or imported not in packages:
                continue
            other = packages[imported]
            if other == "sweep":
                other = "sweep.execute"  # the folder stands for all of it
            inside = other == package or imported == package.split(".")[0]
            if not inside and LEVEL.get(other, 99) >= LEVEL[package]:
                lines.append(f"{module} imports {imported}")
    return lines


def cycles(root: Path) -> list[str]:
    """Every cycle of modules that a depth-first walk meets."""
    modules, found = modules_of(root), []
    graph = {
        m: {n for i in imports_of(f) if (n := i.removeprefix("scaling.")) in modules and n != i}
        for m, f in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            found.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for other in sorted(graph[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())
    return found


def test_packages_import_only_from_lower_levels():
    assert len(modules_of(ROOT / "scaling")) > 200
    assert problems(ROOT / "scaling") == []


def test_studies_import_only_studies_and_the_config():
    for file in (ROOT / "configs").glob("*.py"):
        names = {n for n in imports_of(file) if n.split(".")[0] in ("scaling", "configs", *OUTSIDE)}
        allowed = ("scaling.config.", "scaling.configs", "scaling.utils.")
        assert all(n.startswith(allowed) for n in names), file


def test_modules_have_no_cycle():
    assert cycles(ROOT / "scaling") == []


@pytest.mark.parametrize(
    "files, line",
    [
        ({"laws/x.py": "from scaling.data import y", "data/y.py": ""}, "laws.x imports data.y"),
        ({"laws/x.py": "def f():\n    import scaling.cli", "cli.py": ""}, "laws.x imports cli"),
        (
            {"data/x.py": "from scaling.config.load import a", "config/load.py": "a = 1"},
            "data.x imports config.load",  # the same level
        ),
        ({"x.py": ""}, "x: package 'x' has no level"),
        ({"laws/x.py": "from tests import common"}, "laws.x imports tests"),
        ({"laws/x.py": "from scaling import data", "data/y.py": ""}, "laws.x imports data"),
        ({"utils/x.py": "import scaling.sweep", "sweep/plan/y.py": ""}, "utils.x imports sweep"),
        (
            {"laws/x.py": "import_module('scaling.commands.fit')", "commands/fit.py": ""},
            "laws.x imports commands.fit",
        ),
    ],
)
def test_a_forbidden_import_is_found(tmp_path, files, line):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert line in problems(tmp_path)


def test_a_cycle_is_found(tmp_path):
    (tmp_path / "laws").mkdir()
    (tmp_path / "laws" / "a.py").write_text("from scaling.laws import b")
    (tmp_path / "laws" / "b.py").write_text("def f():\n    from scaling.laws.a import c")
    assert cycles(tmp_path) == ["laws.a -> laws.b -> laws.a"]


def test_the_root_holds_packages_and_few_modules():
    assert {f.stem for f in (ROOT / "scaling").glob("*.py")} == ROOT_MODULES
    inits = [f for f in (ROOT / "scaling").rglob("__init__.py") if f.parent.name != "scaling"]
    assert [f.parent.name for f in inits if f.read_text()] == ["configs"]  # points to configs/
    folders = {f.parent for f in (ROOT / "scaling").rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_the_wheel_holds_the_packages_of_the_library_and_configs_as_one_of_them():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["packages"]["find"]["include"] == ["scaling*"]
    assert setuptools["package-dir"] == {"scaling.configs": "configs"}
    assert not setuptools["include-package-data"]  # else scaling/configs/__init__.py comes along


@pytest.mark.slow  # pip downloads the build backend
def test_an_installed_wheel_and_a_source_archive_have_the_studies(tmp_path):
    """Build as `pip install .` does, install beside this environment, plan from another folder."""
    source = tmp_path / "source"
    names = run(["git", "ls-files"], ROOT).splitlines()
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "install", "--target", str(tmp_path / "build"), "setuptools>=77"], tmp_path)
    archive = "import setuptools.build_meta as b; print(b.build_sdist('..'))"
    made = run([sys.executable, "-c", archive], source, tmp_path / "build").split()[-1]
    for origin in (source, tmp_path / made):
        target = tmp_path / f"installed-{origin.name}"
        run([*pip, "install", "--no-deps", "--target", str(target), str(origin)], tmp_path)
        top = {p.name for p in target.iterdir() if not p.name.endswith(".dist-info")}
        assert top == {"scaling", "bin"}
        plan = [sys.executable, "-P", "-m", "scaling", "plan", "--json", "--config=mini"]
        assert '"run_id"' in run(plan, tmp_path, target)
        where = "import scaling.configs.base as b; print(b.__file__)"
        found = run([sys.executable, "-P", "-c", where], tmp_path, target)
        assert found.strip() == str(target / "scaling" / "configs" / "base.py")


def run(command: list[str], folder: Path, path: Path | str = "") -> str:
    """Output of a command that must succeed, with a $PYTHONPATH."""
    env = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_and_laws_stay_light():
    code = (
        "import sys, contextlib, io\n"
        "from scaling import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    cli.main(['--help'])\n"
        "heavy = {'jax', 'numpy', 'tensorflow', 'torch'}\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & heavy))\n"
        "import scaling.laws.api\n"
        "print('scaling.config.load' in sys.modules, 'flax' in sys.modules)\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["", "False False"]


def test_a_look_at_a_sweep_needs_nothing_that_trains_fits_or_draws():
    done = run_python(
        "import sys\n"
        "import scaling.commands.status_view, scaling.commands.study_output\n"
        "import scaling.commands.run_table\n"
        "import scaling.study.single_run, scaling.report.saved_summary\n"
        "heavy = {'jax', 'flax', 'scipy', 'matplotlib'}\n"
        "print(*sorted({m.split('.')[0] for m in sys.modules} & heavy))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
