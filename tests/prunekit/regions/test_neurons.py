import numpy as np
import pytest

from prunekit.regions.neurons import neuron_groups, neuron_rates, summarise_neurons


def test_both_ways_of_counting():
    kept = np.zeros((4, 10), dtype=bool)
    kept[0, :6], kept[1, :1], kept[2, :3] = True, True, True
    base = np.zeros((4, 10), dtype=bool)
    base[0, :6], base[1, :2], base[2, :5] = True, True, True
    assert neuron_rates(kept).tolist() == [0.4, 0.9, 0.7, 1.0]
    rates = neuron_rates(kept, base)
    assert rates[:3].tolist() == [0.0, 0.5, 0.4]
    assert np.isnan(rates[3])
    labels = np.arange(1, 41).reshape(4, 10)
    labels[0] = 1
    assert summarise_neurons(kept, base, labels) == {
        "at_least_90": 0.5,
        "at_most_40": 0.25,
        "count": 4,
        "alive": 3,
        "median_area": 0.30000000000000004,
        "upper_area": pytest.approx(0.3 + 0.8 * 0.3),  # of 0.1, 0.3 and 0.6
        "of_survivors": {"at_least_90": 0.0, "at_most_40": 0.5},
        "regions": 5,  # one of six weights and four of one
        "median_region": 1.0,
    }


def test_nothing_left_at_all():
    nothing = np.zeros((3, 2, 2), dtype=bool)
    summary = summarise_neurons(nothing, ~nothing, nothing + 1)
    assert (summary["alive"], summary["median_area"], summary["at_least_90"]) == (0, 0.0, 1.0)
    assert summary["upper_area"] == 0
    assert (summary["regions"], summary["median_region"]) == (0, 0.0)
    assert neuron_groups(np.array([])) == {"at_least_90": 0.0, "at_most_40": 0.0}
