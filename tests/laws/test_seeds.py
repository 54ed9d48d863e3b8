"""Rows of equal inputs are one point with a mean, a deviation and a count."""

from __future__ import annotations

import numpy as np
import pytest

from scaling.laws.seeds import repeats


def test_points_means_deviations_and_counts():
    found = repeats([[2.0, 1.0, 2.0, 2.0], ["a", "a", "a", "b"]], [1.0, 5.0, 2.0, 7.0])
    assert found.first_P.tolist() == [1, 0, 3]
    assert found.mean_P.tolist() == [5.0, 1.5, 7.0] and found.count_P.tolist() == [1, 2, 1]
    assert found.sd_P[1] == pytest.approx(np.std([1.0, 2.0], ddof=1))
    assert np.isnan(found.sd_P[[0, 2]]).all()
    assert found.member_N.tolist() == [1, 0, 1, 2]
    assert found.pooled == pytest.approx(np.sqrt(0.5))


def test_float_noise_does_not_split_a_point_and_single_rows_have_no_noise():
    found = repeats([[0.1, 0.1 * (1 + 1e-13)]], [1.0, 3.0])
    assert found.count_P.tolist() == [2] and found.mean_P.tolist() == [2.0]
    assert np.isnan(repeats([[1, 2, 3]], [1.0, 2.0, 3.0]).pooled)
