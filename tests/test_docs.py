"""README and docs name real paths, links, commands, flags and config keys, and stay short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scaling import cli
from scaling.commands import command_line, flag_parser
from scaling.configs.base import KEYS
from tests.common import ROOT
from tests.test_imports import LEVELS

PAGES = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "benchmarks" / "README.md",
        *(ROOT / "docs").glob("*.md"),
    ]
)
FOLDERS = "scaling|configs|experiments|tests|benchmarks|notebooks"
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./-]*")
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULE = re.compile(r"python -m ((?:benchmarks|experiments)\.\w+(?:\.\w+)*)")
COMMAND = re.compile(r"(?<![\w/.])scaling ([a-z]+)((?: +[^\s|`#&]+)*)")
SECTIONS = "|".join(sorted({key.partition(".")[0] for key in KEYS if "." in key} - {"laws"}))
CONFIG_KEYS = (
    re.compile(r"--config\.([\w.]+)"),
    re.compile(r"config\.(\w+\.\w+)"),
    re.compile(rf"`((?:{SECTIONS})\.\w+)"),
)
NOT_KEYS = {"key", "sweep.json"}  # --config.key stands for any key
WORDS_OF_README = 700
WORDS_OF_A_SENTENCE = 25


def missing_paths(text: str, root: Path) -> list[str]:
    """Return the repository paths named in a text that do not exist."""
    names = {match.rstrip(".") for match in PATH.findall(text)}
    return sorted(n for n in names if not (root / n.partition(":")[0]).exists())


def heading_anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def broken_links(text: str, page: Path) -> list[str]:
    """Return the relative links of a page whose file or heading does not exist."""
    broken = []
    for link in LINK.findall(text):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in heading_anchors(target.read_text())):
            broken.append(link)
    return broken


def command_lines(text: str) -> list[tuple[str, list[str]]]:
    """Return every `scaling COMMAND ...` of a text: the command and the names of its flags."""
    text = re.sub(r"```bibtex\n.*?```", "", text, flags=re.DOTALL)
    code = "\n".join(
        [
            *re.findall(r"```\w*\n(.*?)```", text, re.DOTALL),
            *re.findall(r"^ {4}.*$", text, re.MULTILINE),
            *re.findall(r"`([^`\n]+)`", text),
        ]
    ).replace("\\\n", " ")
    return [
        (command, re.findall(r"(?<!\S)(--\w[\w-]*)(?=[=\s]|$)", rest))
        for command, rest in COMMAND.findall(code)
    ]


def wrong_commands(text: str) -> list[str]:
    """Return the commands and flags of a text that the command line does not know."""
    wrong = []
    for command, flags in command_lines(text):
        if command not in command_line.COMMANDS:
            wrong.append(f"scaling {command}")
            continue
        parser = flag_parser.FlagParser()
        command_line.COMMANDS[command].add_flags(parser)
        known = parser._option_string_actions
        wrong += [
            f"scaling {command} {f}" for f in flags if "--" + f[2:].replace("-", "_") not in known
        ]
    return wrong


def sentences(text: str) -> list[str]:
    """Return the sentences of a page's prose, without code, tables, headings and link targets."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"^( {4}| *\||#|!\[).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^ *([-*]|\d+\.) ", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "CODE", text)).replace("et al.", "et al")
    paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", text)]
    return [s for p in paragraphs for s in re.split(r"(?<=[.!?])\)? (?=[A-Z0-9\[(*])", p) if s]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_page_names_what_exists(page):
    text = page.read_text()
    assert missing_paths(text, ROOT) == []
    assert broken_links(text, page) == []
    assert wrong_commands(text) == []
    modules = {name.replace(".", "/") for name in MODULE.findall(text)}
    assert [m for m in modules if not (ROOT / f"{m}.py").is_file()] == []
    keys = {key for pattern in CONFIG_KEYS for key in pattern.findall(text)}
    assert sorted(keys - set(KEYS) - NOT_KEYS) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_sentences_are_short(page):
    long = [s for s in sentences(page.read_text()) if len(s.split()) > WORDS_OF_A_SENTENCE]
    assert long == []


def test_the_readme_is_short_and_its_sweep_plans(tmp_path, capsys):
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= WORDS_OF_README
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 12
    (tmp_path / "my_sweep.py").write_text(code)
    assert cli.main(["plan", f"--config={tmp_path / 'my_sweep.py'}"]) == 0
    assert "6 runs" in capsys.readouterr().out


def test_the_index_lists_every_page_once():
    links = LINK.findall((ROOT / "docs" / "README.md").read_text())
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(link for link in links if "/" not in link) == sorted(pages)


def test_contributing_lists_the_levels_of_the_packages():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.*) \|$", text, re.MULTILINE)
    listed = {
        int(level): {n.strip("/").removesuffix(".py") for n in re.findall(r"`(.*?)`", names)}
        for level, names in rows
    }
    levels = dict(enumerate({p.replace(".", "/") for p in packages} for packages in LEVELS))
    assert listed == levels


def test_wrong_names_are_found(tmp_path):
    text = "see scaling/nowhere.py, [x](gone.md), [y](README.md#no), `scaling fitt`, "
    text += "`scaling fit --colour=red runs.csv`"
    assert missing_paths(text, ROOT) == ["scaling/nowhere.py"]
    assert broken_links(text, ROOT / "README.md") == ["gone.md", "README.md#no"]
    assert wrong_commands(text) == ["scaling fitt", "scaling fit --colour"]
    assert len(sentences("One two.\nThree `four. Five` six.")) == 2
