import pytest

from prunekit.errors import ConfigError, check_choice, check_count, check_rate


@pytest.mark.parametrize("value", [-0.1, 1.0001, float("nan"), float("inf"), "0.5", None, True])
def test_rates_outside_0_to_1_are_refused_with_the_key(value):
    with pytest.raises(ConfigError, match=r"callbacks\.x\.rate: got .*; accepted: a number from 0 to 1"):
        check_rate("callbacks.x.rate", value)


@pytest.mark.parametrize("value", [0, 1, 0.5, 1e-9])
def test_rates_within_are_taken(value):
    assert check_rate("rate", value) == value


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", None, True])
def test_counts_are_whole_numbers_of_at_least(value):
    with pytest.raises(ConfigError, match="a whole number, 1 or more"):
        check_count("rounds", value, least=1)


def test_choices_are_listed():
    with pytest.raises(ConfigError, match="connectivity: got 3; accepted: one of 1, 2"):
        check_choice("connectivity", 3, (1, 2))
    with pytest.raises(ConfigError, match="got True"):
        check_choice("connectivity", True, (1, 2))
