"""How a process obeys signals: once, in time, and without harm to what it has forked."""

import os
import pickle
import signal
import subprocess
import sys
import time

import pytest
from filelock import FileLock

from prunekit import stopping
from prunekit.app import ranks
from prunekit.app.build import fit
from prunekit.app.stops import stop_told
from prunekit.files import write_whole
from prunekit.stopping import Stopped
from tests.end_to_end import killing


def in_child(work, folder, *arguments):
    """Start a function in a process of its own, its stderr in a file."""
    process = killing.CONTEXT.Process(target=_work, args=(work, folder, *arguments))
    process.start()
    return process


def _work(work, folder, *arguments):
    os.dup2(os.open(folder / "errors", os.O_WRONLY | os.O_CREAT, 0o600), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores
    with stopping.obeyed():
        work(folder, *arguments)


def ready(folder):
    (folder / "ready").touch()


def send(process, folder, *numbers, pause=0.0):
    """Send signals when the process is ready for them; its exit status, and how long it took."""
    while not (folder / "ready").exists():
        time.sleep(0.01)
    started = time.monotonic()
    for number in numbers:
        os.kill(process.pid, number)
        time.sleep(pause)
    process.join(30)
    return process.exitcode, time.monotonic() - started


def write_half(folder):
    with FileLock(folder / "lock"):
        write_whole(folder / "file", lambda file: (file.write(b"half"), ready(folder), time.sleep(30)))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_unwinds_and_is_the_exit_status(name, tmp_path):
    number = signal.Signals[name]
    status, _ = send(in_child(write_half, tmp_path), tmp_path, number)
    assert status == 128 + number
    assert {path.name for path in tmp_path.iterdir()} <= {"ready", "errors", "lock"}
    FileLock(tmp_path / "lock").acquire(timeout=0)


def replace_what_unwinds(folder):
    with stop_told():
        try:
            ready(folder)
            time.sleep(30)
        finally:
            raise UnboundLocalError("f")


def test_what_a_library_makes_of_a_stop_is_a_stop_all_the_same(tmp_path):
    status, _ = send(in_child(replace_what_unwinds, tmp_path), tmp_path, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert (tmp_path / "errors").read_text().startswith("stopped by SIGTERM; the same command goes on from ")


def unwind_slowly(folder):
    try:
        ready(folder)
        time.sleep(30)
    finally:
        time.sleep(0.5)
        (folder / "unwound").touch()


def test_the_same_gesture_told_twice_is_one(tmp_path):
    """A terminal that closes: the shell and the system each send SIGHUP."""
    process = in_child(unwind_slowly, tmp_path)
    assert send(process, tmp_path, signal.SIGHUP, signal.SIGHUP, pause=0.1)[0] == 128 + signal.SIGHUP
    assert (tmp_path / "unwound").exists()
    assert (tmp_path / "errors").read_text() == ""


def hold_for_ever(folder, seconds):
    stopping.SECONDS = seconds
    stopping.hold(True)
    ready(folder)
    os.read(os.pipe()[0], 1)  # nothing of Python runs in it


def test_a_second_signal_ends_at_once(tmp_path):
    process = in_child(hold_for_ever, tmp_path, 60.0)
    status, seconds = send(process, tmp_path, signal.SIGTERM, signal.SIGINT, pause=1.2)
    assert status == 128 + signal.SIGINT
    assert seconds < 5
    assert (tmp_path / "errors").read_text() == "stopped by a second signal, SIGINT\n"


def test_what_takes_no_end_is_ended(tmp_path):
    status, _ = send(in_child(hold_for_ever, tmp_path, 0.5), tmp_path, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert (tmp_path / "errors").read_text().startswith("stopped by SIGTERM, but not by itself within 0 seconds; ")


def fork_and_wait(folder):
    forked = os.fork()
    if not forked:
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        same = handlers == [signal.SIG_DFL, signal.default_int_handler] and signal.set_wakeup_fd(-1) == -1
        if same:
            ready(folder)
        time.sleep(30)
        os._exit(0)
    while not (folder / "ready").exists():
        time.sleep(0.01)
    os.kill(forked, signal.SIGTERM)
    _, status = os.waitpid(forked, 0)
    time.sleep(0.2)
    (folder / str(status)).touch()


def test_a_signal_to_a_forked_process_is_not_its_parents(tmp_path):
    process = in_child(fork_and_wait, tmp_path)
    process.join(20)
    assert process.exitcode == 0
    assert (tmp_path / str(signal.SIGTERM.value)).exists()


def test_handlers_that_others_have_set_stay_and_ours_go():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with stopping.obeyed(), stopping.obeyed():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # nohup
            assert signal.getsignal(signal.SIGTERM) is stopping._hear
        assert {number: signal.getsignal(number) for number in usual} == usual
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.signal(signal.SIGHUP, before)


def test_it_comes_from_another_process_as_it_was():
    stop = pickle.loads(pickle.dumps(Stopped(signal.SIGTERM, "there")))
    assert (stop.signal, stop.start, stop.code) == (signal.SIGTERM, "there", 143)


def watch(folder):
    ranks.watch_parent("the parent")
    ready(folder)
    time.sleep(30)


def have_a_child(folder):
    forked = os.fork()
    if not forked:
        watch(folder)
        os._exit(0)
    (folder / "child").write_text(str(forked))
    time.sleep(30)


def test_a_process_whose_parent_is_gone_ends(tmp_path):
    assert send(in_child(have_a_child, tmp_path), tmp_path, signal.SIGKILL)[0] == -signal.SIGKILL
    child, until = int((tmp_path / "child").read_text()), time.monotonic() + 10
    while "is gone" not in (tmp_path / "errors").read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert f"the parent (process {os.getpid()})" not in (tmp_path / "errors").read_text()
    assert f"is gone: process {child}, which works for it, ends too\n" in (tmp_path / "errors").read_text()


def test_the_fit_of_a_run_leaves_signals_to_us(short_run, monkeypatch):
    """Lightning's own handlers broadcast, and under Slurm save files of their own."""
    seen = []

    def watched(trainer, *arguments):
        step = trainer.callbacks[0].on_train_batch_end
        trainer.callbacks[0].on_train_batch_end = lambda *a: (seen.append(signal.getsignal(signal.SIGTERM)), step(*a))
        return fit(trainer, *arguments)

    monkeypatch.setattr("prunekit.app.dense.fit", watched)
    before = signal.getsignal(signal.SIGTERM)
    short_run().go()
    assert set(seen) == {before}


def test_the_library_alone_handles_no_signal():
    handlers = "[signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]"
    script = f"import signal; before = {handlers}; import prunekit, prunekit.stopping; print(before == {handlers})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
