"""Commands in processes of their own that are sent signals, and what is left of them afterwards."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tests.end_to_end import killing

TAG = "PRUNEKIT_TEST_TAG"
SECONDS_TO_END = 30


def _command(module: str, arguments: tuple[str, ...], errors: Path, environment: dict[str, str], prepare: Any) -> None:
    import importlib

    os.environ.update(environment)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup this
    torch.set_num_threads(1)
    if prepare is not None:
        prepare()
    sys.argv = [module, *arguments]
    importlib.import_module(f"prunekit.app.{module}").main()


def start(
    *arguments: str, errors: Path, module: str = "train", prepare: Callable[[], None] | None = None, **environment: str
) -> Any:
    """Start a command without the time that imports take.

    Args:
        arguments: the command's.
        errors: a file that takes what it prints on stderr, behind what is there.
        module: which command.
        prepare: called in it first, such as a ``functools.partial`` of :func:`send_before`.
        environment: variables that it has besides.
    """
    process = killing.CONTEXT.Process(target=_command, args=(module, arguments, errors, environment, prepare))
    process.start()
    return process


def send_before(owner: str, function: str, call: int, number: int = signal.SIGTERM) -> None:
    """Send this process a signal when ``owner.function`` is called for the ``call``-th time; it is then called."""
    killing.act(owner, function, call, before=True, action=lambda: os.kill(os.getpid(), number))


def end_of(process: Any) -> int:
    """The exit status, once the process has ended as soon as it must."""
    process.join(SECONDS_TO_END)
    assert process.exitcode is not None, "it goes on"
    return int(process.exitcode)


def tagged(tag: str) -> list[int]:
    """Numbers of the live processes that have this tag in their environment, or inherited it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            alive = (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            if alive and f"{TAG}={tag}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return sorted(found)


def kill_tagged(tag: str) -> None:
    """Leave nothing of a test that failed."""
    for number in tagged(tag):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """What ``condition`` returns as soon as that is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} seconds for {what}")
