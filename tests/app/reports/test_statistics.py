import numpy as np
import pytest
from scipy.stats import ttest_1samp

from prunekit.app.reports.statistics import t_interval


@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_is_that_of_students_test(n, level):
    values = np.random.default_rng(n).normal(0.9, 0.1, n)
    mean, half, count = t_interval(values, level)
    low, high = ttest_1samp(values, 0).confidence_interval(level)
    assert (mean - half, mean + half, count) == (pytest.approx(low), pytest.approx(high), n)


def test_nothing_is_no_value():
    with pytest.raises(ValueError, match="no value"):
        t_interval([])
