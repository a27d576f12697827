import pytest

from prunekit.errors import ArgumentError, check_choice, check_count, check_rate, owned_by


@pytest.mark.parametrize("value", [-0.1, 1.0001, float("nan"), float("inf"), "0.5", None, True])
def test_rates_outside_0_to_1_are_refused_with_the_key(value):
    with pytest.raises(ArgumentError, match=r"callbacks\.x\.rate: got .*; accepted: a number from 0 to 1"):
        check_rate("callbacks.x.rate", value)


@pytest.mark.parametrize("value", [0, 1, 0.5, 1e-9])
def test_rates_within_are_taken(value):
    assert check_rate("rate", value) == value


@pytest.mark.parametrize("value", [0, -1, 1.0, "3", None, True])
def test_counts_are_whole_numbers_of_at_least(value):
    with pytest.raises(ArgumentError, match="a whole number, 1 or more"):
        check_count("rounds", value, least=1)


def test_choices_are_listed():
    with pytest.raises(ArgumentError, match="connectivity: got 3; accepted: one of 1, 2"):
        check_choice("connectivity", 3, (1, 2))
    with pytest.raises(ArgumentError, match="got True"):
        check_choice("connectivity", True, (1, 2))


def test_an_object_as_a_whole_is_named_by_its_class():
    assert str(ArgumentError("", 3, "4", Collection())) == "Collection: got 3; accepted: 4"


class Collection:
    """An owner."""


def test_an_error_is_of_whom_it_says_and_else_of_who_called():
    inner, outer = Collection(), Collection()
    with pytest.raises(ArgumentError) as caught, owned_by(outer), owned_by(inner):
        check_rate("rate", 2)
    assert caught.value.owner is inner
    with pytest.raises(RuntimeError), owned_by(outer):
        raise RuntimeError
