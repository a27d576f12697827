"""The grid of controls: its sweeps are ones that ``prunekit train -m`` takes, and what compare asks is tried."""

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from benchmarks.recurrent_controls import TASKS, sweeps
from prunekit.app.config import resolve
from prunekit.app.control import CONTROLS, controlled
from prunekit.app.reports.questions import QUESTIONS
from tests.conftest import compose_config


def jobs(task):
    """Of each sweep of a task the overrides of its jobs."""
    for sweep in sweeps(TASKS[task]):
        (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(sweep), None)
        yield batch


@pytest.mark.parametrize("task", TASKS)
def test_the_first_job_of_each_sweep_is_a_run(task):
    for batch in jobs(task):
        config, _ = resolve(compose_config(*batch[0]))
        assert config["name"] == TASKS[task].experiment
        assert controlled(config)["dense_epochs"] >= 1


def test_what_is_asked_is_tried():
    words = [" ".join(job) for batch in jobs("jsb") for job in batch]
    asked = {question.theirs.get("control") for question in QUESTIONS} | {None}
    assert asked == {None, *CONTROLS}
    for control in CONTROLS:
        assert any(f"control={control}" in each.split() for each in words), control
    for epochs in ("1", "4"):
        assert any("criterion=reconstruction" in each and f"retrain_epochs={epochs}" in each for each in words)
