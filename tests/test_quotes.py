"""Numbers that docs quote are those of the committed files, and a stale one is found."""

from __future__ import annotations

import json
import re

import pytest

from experiments import quote
from scaling.utils.errors import EXIT_BAD_INPUT, EXIT_INCOMPLETE, UserError

# A value with an interval, as in 0.63 [0.58, 0.69].
INTERVAL = re.compile(r"-?\d[\d.]* \[-?[\d.]+, (?:-?[\d.]+|inf)\]")
PAGES = ("laws.md", "fields.md", "algorithms.md", "sweeps.md", "quickstart.md")


def test_every_quoted_number_is_that_of_its_file():
    stale = [page.name for page in quote.pages() if quote.rewritten(page) != page.read_text()]
    assert stale == [], "run `python -m experiments.quote`"


@pytest.mark.parametrize("name", PAGES)
def test_every_interval_on_a_page_is_quoted(name):
    text = (quote.ROOT / "docs" / name).read_text()
    assert len(quote.MARK.findall(text)) >= 5
    prose = re.sub(r"```.*?```", "", quote.MARK.sub("", text), flags=re.DOTALL)
    assert INTERVAL.findall(prose) == []


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Return a function that writes a page with one quote and returns the page."""
    law = {"E": {"value": 5e-29, "se": 0.2, "low": 0.0, "high": 0.34}, "share": 0.4567}
    rows = [{"x": 1, "y": 2.5}, {"x": 2, "y": 3.5}]
    (tmp_path / "law.json").write_text(json.dumps({"parameters": law, "rows": rows}))
    (tmp_path / "runs.csv").write_text(
        "role,loss,loss_se,a,a_low,a_high\nsweep,2.5,.1,1,0,2\nholdout,1.33009,.0556,0.6,0.5,0.9\n"
    )
    monkeypatch.setattr(quote, "pages", lambda: [tmp_path / "page.md"])

    def write(mark: str, text: str = "?"):
        path = tmp_path / "page.md"
        path.write_text(f"# Page\nIt is <!-- quote {mark} -->{text}<!-- end -->.\n")
        return path

    return write


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        ("law.json parameters.E", "0.00 [0.00, 0.34]"),
        ("law.json parameters.E value", "0.00"),
        ("law.json parameters.E ends", "[0.00, 0.34]"),
        ("law.json parameters.share %1", "45.7%"),
        ("law.json parameters.share .2f", "0.46"),
        ("law.json rows[x=2].y", "3.5"),
        ("law.json rows[-1].x", "2"),
        ("runs.csv [role=holdout].loss", "1.330 +- 0.056"),
        ("runs.csv [role=holdout].a", "0.60 [0.50, 0.90]"),
    ],
)
def test_a_mark_is_filled_and_a_stale_one_is_named(mark, text, page, capsys):
    path = page(mark)
    before = path.read_text()
    assert quote.main(["--check"]) == EXIT_INCOMPLETE and path.read_text() == before
    assert "page.md: stale" in capsys.readouterr().out
    assert quote.main([]) == 0 and f"-->{text}<!-- end -->." in path.read_text()
    assert quote.main(["--check"]) == 0


@pytest.mark.parametrize(
    "mark",
    ["no.json a", "law.json parameters.F", "law.json rows[x=3].y", "law.json rows[5]",
     "runs.csv [colour=red].loss", "law.json parameters .2f"],
)  # fmt: skip
def test_a_mark_that_names_nothing_is_one_line(mark, page, capsys):
    path = page(mark)
    with pytest.raises(UserError, match=r"page.md: <!-- quote [^\n]* cannot be quoted [^\n]*$"):
        quote.rewritten(path)
    assert quote.main([]) == EXIT_BAD_INPUT and len(capsys.readouterr().err.splitlines()) == 1
