"""The nearest known name, and none where no name is near."""

from __future__ import annotations

import pytest

from scaling.utils.suggest import nearest


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("optim.lrr", ("optim.lr", "optim.eps"), "optim.lr"),
        ("TOKENS", ("tokens", "flops"), "tokens"),
        ("Tokns", ("n_params", "Tokens"), "Tokens"),
        ("colour", ("tokens", "flops"), None),
        ("mlpp", ("mlp", ""), "mlp"),
        (3, ("tokens",), None),
        ("x", (), None),
    ],
)
def test_the_nearest_name(name, known, expected):
    assert nearest(name, known) == expected
