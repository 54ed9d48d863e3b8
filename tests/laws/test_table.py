"""CSVs from elsewhere: columns by any name, bad rows named, nothing guessed."""

from __future__ import annotations

import pytest

from scaling.laws import api as laws
from scaling.laws.read import distinct
from scaling.utils import notices
from scaling.utils.errors import UserError


def write(path, rows):
    path.write_text("\n".join(["size,tok,flop,val", *rows]) + "\n")
    return path


def test_columns_by_name_and_tokens_from_flops(tmp_path):
    path = write(tmp_path / "t.csv", ["1e6,1e9,6e15,3.0", "2e6,1e9,1.2e16,2.5"])
    table = laws.read_csv(path, n_params="size", flops="flop", loss="val")
    assert table.tokens.tolist() == pytest.approx([1e9, 1e9])
    table = laws.read_csv(path, n_params="size", tokens="tok", loss="val")
    assert table.flops.tolist() == pytest.approx([6e15, 1.2e16])


def test_bad_rows_are_named_and_left_out(tmp_path):
    rows = ["1e6,1e9,6e15,3.0", "oops,1e9,6e15,3.0", "1e6,1e9,6e15,-1", "1e6,1e9,6e15,nan"]
    table = laws.read_csv(
        write(tmp_path / "t.csv", rows), n_params="size", tokens="tok", loss="val"
    )
    assert len(table) == 1
    assert [row.text.split(":")[0] for row in table.excluded] == ["row 3", "row 4", "row 5"]


def test_highest_losses_are_dropped_and_listed(tmp_path):
    rows = [f"{i}e6,1e9,6e15,{loss}" for i, loss in enumerate((3, 5, 4, 2), start=1)]
    table = laws.read_csv(
        write(tmp_path / "t.csv", rows), n_params="size", tokens="tok", loss="val", drop_highest=2
    )
    assert table.loss.tolist() == [3, 2]
    assert [row.kind for row in table.excluded] == [notices.HIGHEST_LOSS] * 2


def test_missing_columns_suggest_the_nearest(tmp_path):
    path = write(tmp_path / "t.csv", ["1e6,1e9,6e15,3.0"])
    with pytest.raises(UserError, match=r"no column 'flops'; did you mean 'flop'\?"):
        laws.read_csv(path, n_params="size", flops="flops", loss="val")
    with pytest.raises(UserError, match="no such file"):
        laws.read_csv(tmp_path / "none.csv", n_params="size", tokens="tok", loss="val")
    with pytest.raises(UserError, match="give --tokens or --flops"):
        laws.read_csv(path, n_params="size", loss="val")


def test_distinct_cells_come_in_order_of_appearance_and_select_their_rows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("size,tok,val,kind,seed\n1e6,1e9,3,b,1\n2e6,1e9,2,a,1\n3e6,1e9,1,b,1\n")
    cells = distinct(path, ["kind", "seed"])
    assert cells == [{"kind": "b", "seed": "1"}, {"kind": "a", "seed": "1"}]
    columns = {"n_params": "size", "tokens": "tok", "loss": "val"}
    assert laws.read_csv(path, where=cells[0], **columns).loss.tolist() == [3, 1]
    with pytest.raises(UserError, match="no row with kind=c"):
        laws.read_csv(path, where={"kind": "c"}, **columns)
    with pytest.raises(UserError, match="no column 'knd'; did you mean 'kind'"):
        distinct(path, ["knd"])
