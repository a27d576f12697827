from contextlib import ExitStack, nullcontext
from types import SimpleNamespace

import pytest

from prunekit import gpu
from prunekit.app.devices import check_one_device, current, free_gpu
from prunekit.errors import ArgumentError

GPUS = [f"test-{i}" for i in range(3)]
TRAINER = {"accelerator": "auto", "devices": 1}


@pytest.fixture(autouse=True)
def fresh_process(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("prunekit.app.devices._used", [])


def test_jobs_take_different_gpus_as_long_as_there_are_some_and_then_share(monkeypatch):
    with ExitStack() as jobs:
        taken = []
        for job in (4, 4, 4, 5):
            monkeypatch.setattr("prunekit.app.devices._used", [])  # each in a process of its own
            taken.append(jobs.enter_context(free_gpu(TRAINER, job, GPUS)))
        assert taken == [1, 2, 0, 2]
    monkeypatch.setattr("prunekit.app.devices._used", [])
    with free_gpu(TRAINER, 4, GPUS) as gpu:
        assert gpu == 1


def test_jobs_of_one_process_stay_on_one_gpu():
    taken = []
    for job in (1, 2, 3):
        with free_gpu(TRAINER, job, GPUS) as gpu:
            taken.append(gpu)
    assert taken == [1, 1, 1]
    with free_gpu(TRAINER, 0, GPUS), free_gpu(TRAINER, 0, GPUS) as gpu:  # unless another process has it
        assert gpu == 0


@pytest.mark.parametrize(
    ("trainer", "gpus"),
    [
        (TRAINER, GPUS[:1]),
        (TRAINER, []),
        ({"accelerator": "cpu", "devices": 1}, GPUS),
        ({"accelerator": "gpu", "devices": [2]}, GPUS),
    ],
)
def test_nothing_is_chosen_where_there_is_no_choice(trainer, gpus):
    with free_gpu(trainer, 0, gpus) as gpu:
        assert gpu is None


@pytest.mark.parametrize("trainer", [{"devices": 2}, {"devices": "auto"}, {"devices": -1}, {"devices": [0, 1]},
                                     {"devices": 1, "num_nodes": 2}])  # fmt: skip
def test_a_job_of_a_sweep_has_one_device(trainer):
    with pytest.raises(ArgumentError, match=r"trainer\.devices: got .*the whole sweep's"):
        check_one_device(trainer)


@pytest.mark.parametrize("trainer", [{"devices": 1}, {"devices": "1"}, {"devices": [3]}, {}])
def test_one_device_may_be_named(trainer):
    check_one_device(trainer)


def test_a_gpu_takes_several_jobs_while_it_has_memory_for_them(monkeypatch):
    free = {0: 3, 1: 1}
    memory = SimpleNamespace(mem_get_info=lambda number: (free[number], 8))
    monkeypatch.setattr(gpu, "module", lambda: memory)
    with ExitStack() as jobs:
        taken = []
        for _ in range(4):
            monkeypatch.setattr("prunekit.app.devices._used", [])  # each in a process of its own
            taken.append(jobs.enter_context(free_gpu(TRAINER, 0, GPUS[:2], each=4)))
        assert taken == [0, 1, 0, 0]  # a GPU that is free first; then one with a quarter of its memory free
        free[0] = 1
        monkeypatch.setattr("prunekit.app.devices._used", [])
        assert jobs.enter_context(free_gpu(TRAINER, 1, GPUS[:2], each=4)) == 1  # by turns, as all are full


def test_a_gpu_that_is_the_current_one_anyway_is_left_alone(monkeypatch):
    """Asked for, it would be given memory by a process that has nothing to do."""
    asked = []
    cuda = SimpleNamespace(is_initialized=lambda: False, device=lambda number: asked.append(number) or nullcontext())
    monkeypatch.setattr(gpu, "module", lambda: cuda)
    for number in (None, 0, 1):
        with current(number):
            pass
    assert asked == [1]
