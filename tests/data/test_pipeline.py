"""Test that batches depend only on (seed, k), not on history or the number of hosts."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.data import pipeline
from scaling.utils.errors import UserError


def source(**changes):
    options = {"seq_len": 8, "batch_size": 4, "steps": 3, "seed": 5, **changes}
    return pipeline.Dispatches(np.arange(1000, dtype=np.uint16), **options)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000, 4097])
def test_the_permutation_is_a_bijection(size):
    drawn = pipeline.permute(np.arange(size), size, (3, 1))
    assert sorted(drawn) == list(range(size))


def test_the_permutation_depends_on_seed_and_epoch_and_is_not_a_shift():
    a, b, c = (pipeline.permute(np.arange(1000), 1000, k) for k in ((0, 0), (0, 1), (1, 0)))
    assert (a != b).mean() > 0.9 and (a != c).mean() > 0.9
    assert abs(np.corrcoef(np.arange(1000), a.astype(float))[0, 1]) < 0.1
    assert len(np.unique(np.diff(a.astype(int)))) > 500


GOLDEN = [
    690,
    832,
    661,
    216,
    51,
]  # a change alters the data order of every run; state it in the commit message


def test_permutation_is_the_same_on_every_machine():
    assert pipeline.permute(np.arange(5), 1000, (0, 0)).tolist() == GOLDEN


def test_windows_share_one_token_and_cover_an_epoch_once():
    s = source(seq_len=9, batch_size=1, steps=s_windows())
    first = s[0].reshape(-1, 10)
    assert sorted(first[:, 0]) == list(range(0, 9 * s.windows, 9))
    assert (first[:, 1:] - first[:, :-1] == 1).all()


def s_windows() -> int:
    return (1000 - 1) // 9


def test_seeking_equals_reading_through():
    s = source()
    through = pipeline.iterate(s, 0, prefetch=2)
    read = [next(through) for _ in range(6)]
    sought = pipeline.iterate(s, 4, prefetch=2)
    for expected in read[4:]:
        np.testing.assert_array_equal(next(sought), expected)


def test_hosts_together_hold_the_global_batch():
    whole = source()[7]
    parts = [source(host=h, hosts=2)[7] for h in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_dispatch_length_does_not_change_the_order():
    np.testing.assert_array_equal(source(steps=6)[1], np.concatenate([source()[2], source()[3]]))


def test_unique_windows_are_drawn_from_all_and_draws_are_nested():
    def seen(unique: int) -> set[int]:
        drawn = source(unique=unique, seq_len=10, batch_size=1, steps=1)
        return {int(drawn[k][0, 0, 0]) for k in range(drawn.windows)}

    few, many = seen(100), seen(300)
    assert len(few) == 10 and len(many) == 30 and few < many
    assert seen(0) == seen(10_000) == set(range(0, 990, 10))
    assert max(few) > 500, "not the first ones"
    with pytest.raises(UserError, match=r"unique_tokens=9 is less than one sequence"):
        source(unique=9, seq_len=10)


def test_too_few_tokens_are_refused():
    with pytest.raises(UserError, match="do not fill one sequence"):
        pipeline.Dispatches(np.arange(8), seq_len=8, batch_size=1, steps=1, seed=0)


def test_held_out_windows_are_spread_over_the_split():
    windows = pipeline.held_out_windows(np.arange(1001), seq_len=10, count=100)
    assert windows.shape == (10, 11)
    assert windows[:, 0].tolist() == list(range(0, 1000, 100))
    with pytest.raises(UserError, match=r"config\.eval\.tokens"):
        pipeline.held_out_windows(np.arange(101), seq_len=10, count=200)
