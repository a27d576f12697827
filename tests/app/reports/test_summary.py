import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from prunekit.app.reports.summary import t_interval


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_is_that_of_students_test(n, level):
    values = np.random.default_rng(n).normal(0.9, 0.1, n)
    mean, half = t_interval(values, level)
    low, high = ttest_1samp(values, 0).confidence_interval(level)
    assert (mean - half, mean + half) == (pytest.approx(low, rel=1e-12), pytest.approx(high, rel=1e-12))


def test_few_and_equal_values():
    assert t_interval([0.5, 0.5, 0.5]) == (0.5, 0.0)
    assert [math.isnan(part) for part in (*t_interval([0.5]), *t_interval([]))] == [False, True, True, True]
