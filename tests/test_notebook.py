"""The notebook runs from top to bottom on a real, miniature study."""

from __future__ import annotations

import nbformat
from nbclient import NotebookClient

from tests.common import ROOT


def test_the_notebook_runs_on_a_miniature_study(mini, monkeypatch):
    monkeypatch.setenv("SCALING_WORKDIR", str(mini))
    notebook = nbformat.read(ROOT / "notebooks" / "study.ipynb", as_version=4)
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(
        cwd=str(ROOT / "notebooks")
    )
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    assert "19 runs" in printed and "N* ~ C^" in printed and "held out:" in printed
    images = [
        output for cell in notebook.cells for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]  # fmt: skip
    assert images


def test_the_committed_notebook_holds_no_outputs():
    notebook = nbformat.read(ROOT / "notebooks" / "study.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
