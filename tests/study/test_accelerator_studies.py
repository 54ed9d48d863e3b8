"""The studies for GPUs and TPUs train in miniature: other sizes and devices, nothing else."""

from __future__ import annotations

import pytest

from scaling import results
from tests.common import ROOT, flags, run_cli

MINIATURE = {
    "data.vocab_size": 300,
    "data.seq_len": 32,
    "data.valid_fraction": 0.1,
    "model.head_dim": 8,
    "eval.tokens": 2048,
    "eval.batch_size": 8,
    "sweep.budgets": "(2e9,)",
    "sweep.sizes_per_budget": 1,
    "sweep.optimum_guess": 4e5,
    "sweep.min_width": 16,
    "sweep.width_multiple": 8,
    "sweep.aspect_ratio": 16,
    "laws.holdout_factor": 0,
}


@pytest.mark.parametrize(
    ("study", "devices"),
    [
        ("one_gpu", 1),
        pytest.param("eight_gpus", 8, marks=pytest.mark.slow),
        pytest.param("tpu_pod", 8, marks=pytest.mark.slow),
    ],
)
def test_a_study_trains_on_parquet(study, devices, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    pages = [page.read_text() for page in sorted((ROOT / "docs").glob("*.md"))]
    texts = [page[i : i + 2000] for page in pages for i in range(0, len(page), 2000)]
    (tmp_path / "text").mkdir()
    table = pa.table({"id": [str(i) for i in range(len(texts))], "text": texts})
    parquet.write_table(table, tmp_path / "text" / "000_00000.parquet")
    sizes = {**MINIATURE, "data.path": tmp_path / "text", "parallel.cpu_devices": devices}
    done = run_cli("sweep", f"--config={study}", f"--workdir={tmp_path / 'W'}", *flags(sizes))
    assert done.returncode == 0, done.stderr
    rows, _ = results.read_table(tmp_path / "W" / "runs.csv")
    assert [r.status for r in rows] == ["done"]
    assert rows[0].loss < 5.2 and rows[0].batch_tokens == 256  # log 300 = 5.7
