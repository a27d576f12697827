"""How many threads a run takes: the user's word first, the network's size next, a share beside other jobs last."""

import logging
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from prunekit import threads
from prunekit.app import launcher, thread_choice
from prunekit.app.thread_choice import choose_threads, share_of, take_share
from prunekit.threads import SMALL, all_threads, default_threads, is_small, use_threads

SMALL_ONE, LARGE_ONE = nn.Linear(784, 100), nn.LSTM(512, 1024)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Eight cores, and nothing said about them."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for module in (threads, thread_choice):
        monkeypatch.setattr(module, "default_threads", lambda: 8)
    monkeypatch.setattr(thread_choice, "_share", None)
    yield monkeypatch
    use_threads(before)


@pytest.mark.parametrize(
    ("module", "asked", "variable", "share", "number", "why"),
    [
        (SMALL_ONE, None, None, None, 1, "network of 78,500 parameters"),
        (LARGE_ONE, None, None, None, 8, "torch's own choice"),
        (SMALL_ONE, 3, None, None, 3, "threads"),
        (SMALL_ONE, None, "8", None, 8, "OMP_NUM_THREADS"),
        (SMALL_ONE, 2, "8", 4, 2, "threads"),
        (LARGE_ONE, None, None, 2, 2, "its share beside other jobs"),
        (SMALL_ONE, None, None, 2, 1, "network of"),
        (SMALL_ONE, None, "2", 2, 1, "network of"),  # which joblib has set, not the user
        (nn.LazyLinear(3), None, None, None, 1, "network of 0 parameters"),
    ],
)
def test_the_users_word_wins_then_the_size_then_the_share(module, asked, variable, share, number, why, machine, caplog):
    caplog.set_level(logging.INFO, "prunekit")
    if variable is not None:
        machine.setenv("OMP_NUM_THREADS", variable)
    take_share(share)
    choose_threads(module, asked)
    assert torch.get_num_threads() == number
    assert f"CPU threads: {number} (" in caplog.text
    assert why in caplog.text
    with all_threads():
        assert torch.get_num_threads() == (asked or share or 8)
    assert torch.get_num_threads() == number


def test_size_alone_decides_and_the_next_job_of_a_process_is_asked_anew():
    assert is_small(nn.Linear(SMALL, 1, bias=False))
    assert not is_small(nn.Linear(SMALL + 1, 1, bias=False))
    for module, number in ((SMALL_ONE, 1), (LARGE_ONE, 8), (SMALL_ONE, 1)):
        choose_threads(module, None)
        assert torch.get_num_threads() == number


def test_jobs_side_by_side_share_the_cores(machine):
    assert [share_of(jobs) for jobs in (1, 2, 3, 100)] == [8, 4, 2, 1]
    machine.setenv("OMP_NUM_THREADS", "8")
    assert share_of(2) is None


def test_the_launcher_of_processes_hands_shares_out(machine):
    """Joblib's own way is the environment, from which a job could not tell the user's word."""
    seen = []

    class Parallel:
        def __init__(self, **_):
            pass

        def __call__(self, calls):
            return list(calls)

    def delayed(_):
        return lambda part, share, *given: seen.append(share) or [(number, None) for number, _ in part]

    joblib = SimpleNamespace(Parallel=Parallel, delayed=delayed, effective_n_jobs=lambda number: 4)
    machine.setitem(__import__("sys").modules, "joblib", joblib)
    machine.setattr(launcher, "configure_log", lambda *_: None)
    machine.setattr(launcher, "setup_globals", lambda: None)
    for n_jobs, jobs, share in ((-1, 9, 2), (2, 9, 4), (-1, 1, 8)):
        seen.clear()
        made = launcher.Processes(n_jobs=n_jobs)
        hydra = SimpleNamespace(hydra_logging=None, verbose=False, sweep=SimpleNamespace(dir="."))
        made.setup(hydra_context=None, task_function=None,
                   config=SimpleNamespace(hydra=hydra, trainer=SimpleNamespace(accelerator="cpu")))  # fmt: skip
        made.launch([[f"seed={seed}"] for seed in range(jobs)], 0)
        assert set(seen) == {share}


def test_the_launcher_queue_counts_its_jobs(machine, tmp_path):
    from prunekit.app import jobs

    jobs.plan(tmp_path, [["seed=1"], ["seed=2"], ["seed=3"], ["seed=4"]])
    for most, share in ((2, 4), (None, 2), (9, 2)):
        hydra = SimpleNamespace(
            launcher={"_target_": "hydra_plugins.x.LocalLauncher"}, sweep=SimpleNamespace(dir=str(tmp_path)),
            runtime=SimpleNamespace(cwd="/"), sweeper={"max_batch_size": most},
        )  # fmt: skip
        machine.setattr(thread_choice, "HydraConfig", SimpleNamespace(initialized=lambda: True, get=lambda h=hydra: h))
        choose_threads(LARGE_ONE, None)
        assert torch.get_num_threads() == share


def test_a_run_says_its_threads(short_run):
    assert short_run("threads=2").go()["threads"] == 2
    assert short_run("seed=1").go()["threads"] == 1


def test_what_torch_takes_by_itself_is_remembered():
    assert default_threads.__wrapped__() == torch.get_num_threads()
