"""Signals that ask a process to stop: heard whatever it is doing, obeyed where the least is lost.

A signal raises :class:`Stopped`, which unwinds as any exception does: locks are released, half-written files deleted.
While a fit holds it back it is only remembered, so that the fit can save a checkpoint first. What goes on for too long
after that, or until a second signal, is ended as it is.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

SECONDS = 20.0  # that a process has to stop by itself; who sent the signal will not wait much longer
SECONDS_AFTER_A_WARNING = 90.0  # Slurm's comes some time before the end, which is Slurm's own
SECONDS_OF_ONE_GESTURE = 1.0  # a terminal that closes is told of by the shell and by the system
WARNING = "SIGUSR1"  # what Slurm is asked to send before a job's time is over


class Stopped(SystemExit):
    """A signal asked this process to stop; its exit status is what a shell would say of a process that it ended.

    Args:
        number: of the signal.
        start: the checkpoint that the same command goes on from, if it is known.

    Example:
        >>> stop = Stopped(signal.SIGTERM)
        >>> stop.signal.name, stop.code
        ('SIGTERM', 143)
    """

    def __init__(self, number: int, start: str | None = None) -> None:
        super().__init__(128 + number)
        self.signal, self.start = signal.Signals(number), start

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (int(self.signal), self.start)  # jobs in other processes hand it on


class _Asked:
    """What this process was asked; of one process at a time, hence one of its kind.

    Attributes:
        first: the first signal, if any.
        raised: whether it was obeyed already.
        held: whether a fit wants to save before it stops.
        seconds: that there are after a signal; None for what is usual.
        told: called with the signal by a thread of its own, even while the main thread waits for something.
    """

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self.raised, self.held = False, False
        self.seconds: float | None = None
        self.told: dict[str, Callable[[signal.Signals], object]] = {}
        self.listener: _Listener | None = None


_asked = _Asked()


def asked() -> signal.Signals | None:
    """The signal that asked this process to stop, if any did."""
    return _asked.first


def check() -> None:
    """Stop if that was asked for, where something went on all the same.

    Raises:
        Stopped: if a signal came.
    """
    if _asked.first is not None:
        stop()


def stop(start: str | None = None) -> NoReturn:
    """Obey the signal that was held back.

    Args:
        start: the checkpoint that the same command goes on from.

    Raises:
        Stopped: always.
    """
    assert _asked.first is not None
    _asked.raised = True
    raise Stopped(_asked.first, start)


def hold(back: bool) -> None:
    """Whether a signal is only remembered, since whoever calls this asks for it often and stops then."""
    _asked.held = back


@contextmanager
def held() -> Iterator[None]:
    """Only remember signals within, where a library would make something else of what unwinds it; obey at the end."""
    before, _asked.held = _asked.held, True
    try:
        yield
    finally:
        _asked.held = before
    if not before:
        check()


@contextmanager
def released() -> Iterator[None]:
    """Obey signals at once within, though a fit holds them back: in what takes long and is begun anew without loss."""
    before, _asked.held = _asked.held, False
    try:
        check()
        yield
    finally:
        _asked.held = before


def on_signal(name: str, function: Callable[[signal.Signals], object]) -> None:
    """Have a function called when a signal comes, by a thread of its own: the main one may be waiting for something.

    Args:
        name: whose function it is; a later one of that name takes its place.
        function: given the signal.
    """
    _asked.told[name] = function


def hurry(seconds: float) -> None:
    """Give the process so many seconds to stop by itself, instead of what is usual."""
    _asked.seconds = seconds


def end(status: int, words: str) -> NoReturn:
    """End this process now, whatever its threads are doing, with one line that says why."""
    os.write(2, f"{words}\n".encode())  # a thread that is stuck may hold the lock of sys.stderr
    os._exit(status)


@contextmanager
def obeyed() -> Iterator[None]:
    """Obey SIGTERM, SIGINT and SIGHUP within, and in a job of Slurm its warning too.

    A signal that is ignored, as by ``nohup``, or that something else handles, as in jobs of Ray and submitit, stays so.
    """
    main = threading.current_thread() is threading.main_thread()
    if sys.platform == "win32" or not main or _asked.listener is not None:
        yield
        return
    _asked.listener = _Listener()
    try:
        yield
    finally:
        if _asked.first is None:  # else the process ends, which may take too long as well
            _asked.listener.close()
            _asked.listener = None


class _Listener(threading.Thread):
    """Hears signals by a pipe that the system's own handler writes to, so even while the main thread runs no Python."""

    def __init__(self) -> None:
        super().__init__(name="prunekit-signals", daemon=True)
        names = ["SIGTERM", "SIGINT", "SIGHUP", *([WARNING] if "SLURM_JOB_ID" in os.environ else [])]
        usual = (signal.SIG_DFL, signal.default_int_handler)
        numbers = [number for name in names if signal.getsignal(number := signal.Signals[name]) in usual]
        self._pipe = os.pipe()
        os.set_blocking(self._pipe[1], False)
        self._wakeup = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _hear) for number in numbers}
        self.start()

    def run(self) -> None:
        """Wait for signals, and for what follows the first of them to end in time."""
        first: signal.Signals | None = None
        came, until = 0.0, 0.0
        while True:
            left = None if first is None else max(0.0, until - time.monotonic())
            if not select.select([self._pipe[0]], [], [], left)[0]:
                assert first is not None
                words = f"stopped by {first.name}, but not by itself within {until - came:.0f} seconds"
                end(128 + first, f"{words}; what was written before is whole, and the same command goes on from there")
            for number in os.read(self._pipe[0], 64):
                if not number:
                    os.close(self._pipe[0])
                    return
                if number not in self._before:
                    continue
                now = time.monotonic()
                if first is None:
                    first = _asked.first = signal.Signals(number)
                    usual = SECONDS_AFTER_A_WARNING if first.name == WARNING else SECONDS
                    came, until = now, now + (_asked.seconds or usual)
                    for function in list(_asked.told.values()):
                        with suppress(Exception):  # this thread has to live on
                            function(first)
                elif now - came > SECONDS_OF_ONE_GESTURE:
                    end(128 + number, f"stopped by a second signal, {signal.Signals(number).name}")

    def restore(self) -> None:
        """Have signals handled as before."""
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def close(self) -> None:
        """Restore, and end the thread."""
        self.restore()
        os.write(self._pipe[1], b"\0")
        self.join()
        os.close(self._pipe[1])


def _hear(number: int, frame: FrameType | None) -> None:
    _asked.first = _asked.first or signal.Signals(number)
    if not (_asked.held or _asked.raised):  # once: what unwinds already is not to be disturbed
        stop()


def _forget() -> None:
    """In a forked process: what its parent is asked does not concern it, and the pipe is its parent's."""
    global _asked
    listener, _asked = _asked.listener, _Asked()
    if listener is not None:
        listener.restore()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
