"""The schedule: when rounds are due, and which trainings are too short for it."""

import re

import pytest

from prunekit.errors import ArgumentError
from prunekit.schedule import Schedule


def test_rounds_are_due_at_equal_distances():
    schedule = Schedule(start=4, rounds=3, retrain=2)
    assert [schedule.due(done) for done in range(4)] == [4, 6, 8, 10]
    assert (schedule.last, schedule.end) == (8, 10)
    once = Schedule(start=4)
    assert (once.last, once.end) == (4, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rounds": 0}, "rounds: got 0; accepted: a whole number, 1 or more"),
        ({"retrain": -1}, "retrain_epochs: got -1"),
        ({"start": 1.5}, "start_epoch: got 1.5"),
        ({"rounds": 2}, "retrain_epochs: got 0; accepted: 1 or more between 2 rounds"),
    ],
)
def test_what_is_no_schedule_is_refused(values, message):
    with pytest.raises(ArgumentError, match=re.escape(message)):
        Schedule(**values)


def test_a_training_that_is_too_short_is_refused():
    schedule = Schedule(start=2, rounds=2, retrain=3)  # due after 2 and 5 epochs, over after 8
    for enough in (None, -1, 8, 9):
        schedule.check_epochs(enough)
    with pytest.raises(ArgumentError, match=r"max_epochs=7.*8 or more"):
        schedule.check_epochs(7)
    for enough in (-1, 50, 51):
        schedule.check_steps(enough, 10)
    with pytest.raises(ArgumentError, match="max_steps=49 of 10 steps an epoch"):
        schedule.check_steps(49, 10)
    schedule.check_steps(25, 5.0)
    with pytest.raises(ArgumentError, match="max_steps=24"):
        schedule.check_steps(24, 5.0)
