"""Runs in processes of their own: whole ones, ones that die at a named moment, ones killed from outside.

Children are forked from a server that has imported everything once, so that a run costs its own time only.
"""

import functools
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from prunekit.app.life import Run
from prunekit.callbacks.checkpoints import list_checkpoints

os.environ.setdefault("OMP_NUM_THREADS", "1")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["prunekit.app.train", "prunekit.callbacks.heatmaps", "tests.conftest"])


def _child(overrides: tuple[str, ...], prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    from tests.conftest import compose_config

    torch.set_num_threads(1)
    if prepare is not None:
        prepare(*arguments)
    Run(compose_config(*overrides)).go()


def _command(arguments: tuple[str, ...]) -> None:
    import sys

    from prunekit.app.train import main

    torch.set_num_threads(1)
    sys.argv = ["train", *arguments]
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    main()


def start_command(*arguments: str) -> Any:
    """Start ``prunekit train`` with these arguments, without the time that imports take."""
    process = CONTEXT.Process(target=_command, args=(arguments,))
    process.start()
    return process


def warm_up() -> None:
    """Have the server import everything, so that the next run's time is its own."""
    process = CONTEXT.Process(target=time.sleep, args=(0,))
    process.start()
    process.join()


def start(*overrides: str, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> Any:
    """Start a run in a process; ``prepare(*arguments)`` is called in it first."""
    process = CONTEXT.Process(target=_child, args=(overrides, prepare, arguments))
    process.start()
    return process


def finish(*overrides: str, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()) -> int:
    """Start a run and wait for its end; return the exit status, negative if a signal ended it."""
    process = start(*overrides, prepare=prepare, arguments=arguments)
    process.join(timeout=240)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def kill_after(seconds: float, *overrides: str) -> bool:
    """Start a run and kill it after some time; return whether that was in time."""
    process = start(*overrides)
    time.sleep(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def kill_often(
    rng: random.Random, seconds: float, share: tuple[float, float], times: int, wanted: int, home: Path,
    overrides: Callable[[Path], tuple[str, ...]],
) -> Path:  # fmt: skip
    """Kill a run ``times`` times in a row after random shares of the seconds it takes; return its folder.

    A machine that has become faster is done too soon to be killed ``wanted`` times: then anew, with half the seconds.
    """
    for attempt in range(6):
        folder = home / f"run{attempt}"
        killed = [kill_after(rng.uniform(*share) * seconds / 2**attempt, *overrides(folder)) for _ in range(times)]
        if sum(killed) >= wanted:
            return folder
    raise AssertionError(f"of {times} times a run was killed {sum(killed)} times at most")


def die() -> None:
    """What `kill -9` does, from inside, at exactly this moment."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_before(owner: str, function: str, call: int) -> None:
    """Die when ``owner.function`` is called for the ``call``-th time."""
    act(owner, function, call, before=True, action=die)


def die_after(owner: str, function: str, call: int) -> None:
    """Die when ``owner.function`` has returned for the ``call``-th time."""
    act(owner, function, call, before=False, action=die)


def die_in_the_middle_of_a_write(suffix: str, call: int) -> None:
    """Die when half of the ``call``-th file of that suffix is on disk."""
    from prunekit import files

    calls = [0]
    replace = Path.replace

    def half(self: Path, target: Path) -> Path:
        if str(target).endswith(suffix) and self.name.endswith(".part"):
            calls[0] += 1
            if calls[0] == call:
                os.truncate(self, self.stat().st_size // 2)
                die()
        return replace(self, target)

    files.Path.replace = half  # type: ignore[method-assign]


def act(owner: str, function: str, call: int, before: bool, action: Callable[[], object]) -> None:
    """Do something when ``owner.function`` is called for the ``call``-th time, or when it has returned."""
    from hydra.utils import get_object

    target = get_object(owner)
    original = getattr(target, function)
    calls = [0]

    @functools.wraps(original)  # Lightning reads signatures
    def patched(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if before and calls[0] == call:
            action()
        result = original(*arguments, **keywords)
        if not before and calls[0] == call:
            action()
        return result

    setattr(target, function, patched)


def outcome(folder: Path) -> dict[str, Any]:
    """What must not depend on how often a run was killed: weights, optimizer, masks and results, to the bit."""
    results = json.loads((folder / "results.json").read_text())
    own = list_checkpoints(folder / "checkpoints") or list(folder.glob("dense/*/dense.ckpt"))
    checkpoint = torch.load(own[-1], weights_only=True)
    return {
        "weights": checkpoint["state_dict"],
        "optimizer": checkpoint["optimizer_states"][0]["state"],
        "masks": load_file(folder / "masks.safetensors"),
        "results": {
            key: results.get(key)
            for key in ("metrics", "sparsity", "events", "callbacks", "parameters", "config_hash", "data")
        },
        "curves": checkpoint["callbacks"]["Curves"]["rows"],
    }


def assert_equal(one: Any, other: Any, where: str = "") -> None:
    """Compare nested values, tensors bit by bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, where
        assert torch.equal(
            one.view(torch.uint8) if one.dim() else one, other.view(torch.uint8) if other.dim() else other
        ), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f"{where}/{number}")
    else:
        assert one == other, where
