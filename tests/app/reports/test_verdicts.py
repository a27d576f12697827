import math

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, ttest_rel

from prunekit.app.reports.verdicts import Interval, improvement, probability_of_improvement


@pytest.mark.parametrize("sign", [1, -1])
def test_an_improvement_is_students_paired_test(sign):
    chances = np.random.default_rng(0)
    ours, theirs = chances.normal(0.8, 0.05, 7), chances.normal(0.7, 0.05, 7)
    found = improvement(ours, theirs, sign)
    low, high = ttest_rel(sign * ours, sign * theirs).confidence_interval()
    assert found == (pytest.approx(sign * (ours - theirs).mean()), pytest.approx(low), pytest.approx(high))
    assert found.verdict == ("better" if sign == 1 else "worse")


def test_an_interval_is_no_wider_than_differences_can_be():
    found = improvement([1.0, 0.0], [0.0, 0.9], most=1.0)
    assert found == (pytest.approx(0.05), -1.0, 1.0)
    assert improvement([1.0, 0.0], [0.0, 0.9]).high > 1.0  # which is what was cut
    assert found.verdict == "not told apart"


def test_one_network_tells_no_interval_and_so_no_verdict():
    found = improvement([0.9], [0.1])
    assert found.mean == pytest.approx(0.8)
    assert math.isnan(found.low)
    assert found.verdict == "one network does not tell"


def test_the_probability_is_that_of_mann_and_whitney_in_the_mean_over_tasks():
    chances = np.random.default_rng(1)
    # Rounded, so that some are equal.
    tasks = [(chances.normal(0.6, 0.3, n).round(1), chances.normal(0.5, 0.3, n).round(1)) for n in (5, 8, 3)]
    wanted = [mannwhitneyu(a, b).statistic / (len(a) * len(b)) for a, b in tasks]
    found = probability_of_improvement(tasks, [1, 1, 1])
    assert found.mean == pytest.approx(np.mean(wanted))
    assert 0 <= found.low < found.mean < found.high <= 1
    turned = probability_of_improvement(tasks, [1, -1, 1])
    assert turned.mean == pytest.approx(np.mean([wanted[0], 1 - wanted[1], wanted[2]]))


def test_networks_are_drawn_anew_within_their_task_ours_and_theirs_together():
    # With two networks of a task there are four draws: both twice, or each once (half of the time).
    ours, theirs = [3.0, 1.0], [2.0, 0.0]
    assert probability_of_improvement([(ours, theirs)], [1]).mean == 0.75
    # Drawn together the first alone gives 1, the second alone 1: never 0, as 1.0 against 2.0 would.
    found = probability_of_improvement([(ours, theirs)], [1])
    assert (found.low, found.high) == (0.75, 1.0)


def test_a_task_of_one_network_stays_as_it_is_while_others_are_drawn():
    alone = ([0.9], [0.1])
    assert all(math.isnan(bound) for bound in probability_of_improvement([alone], [1])[1:])
    found = probability_of_improvement([alone, ([3.0, 1.0], [2.0, 0.0])], [1, 1])
    assert found == Interval(0.875, 0.875, 1.0)


def test_the_interval_covers_as_often_as_it_says():
    # 40 repetitions with ten networks on each of three tasks, where in truth neither is better.
    chances, covered = np.random.default_rng(3), 0
    for _ in range(40):
        tasks = [(chances.normal(size=10), chances.normal(size=10)) for _ in range(3)]
        found = probability_of_improvement(tasks, [1, 1, 1])
        covered += found.low <= 0.5 <= found.high
    assert covered >= 34
