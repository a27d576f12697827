"""A stand-in for a GPU: a device type that is host memory, refuses what CUDA refuses, and tells what it would wait for.

Its arithmetic is the CPU's to the bit, so that whatever differs between a run here and one on the CPU is a fault of
where things lie. It shows nothing of a GPU's speed, rounding or memory.
"""

import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from filelock import FileLock

NAME = "standin"
HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class NoCompilerError(RuntimeError):
    """There is nothing to build the stand-in with."""


@cache
def load() -> ModuleType:
    """Build the backend if it is not there yet, and make ``standin`` a device of this process.

    It has to be loaded before the first backward pass of the process: autograd then counts the devices, once.

    Raises:
        NoCompilerError: if there is no C++ compiler.
    """
    backend = _imported(_built())
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _module(backend))
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    return backend


def _built() -> Path:
    """The library, from a cache that knows the source and the versions of torch and Python."""
    source = HERE / "backend.cpp"
    of = (source.read_bytes(), torch.__version__, sys.version)
    key = hashlib.sha256(repr(of).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prunekit-standin"
    library = folder / f"{NAME}-{key}.so"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):
        if not library.exists():
            compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
            if compiler is None:
                raise NoCompilerError("the stand-in for a GPU wants a C++ compiler: apt-get install g++")
            if not Path(sysconfig.get_path("include"), "Python.h").exists():
                raise NoCompilerError("the stand-in for a GPU wants Python's headers: apt-get install python3-dev")
            aside = library.with_suffix(".part")
            flags = ["-std=c++20", "-O1", "-w", "-fPIC", "-shared", f"-DTORCH_EXTENSION_NAME={NAME}"]
            flags += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}"]
            home = Path(torch.__file__).parent
            headers = home / "include"
            includes = [headers, headers / "torch" / "csrc" / "api" / "include", sysconfig.get_path("include")]
            linked = [f"-L{home / 'lib'}", "-ltorch", "-ltorch_cpu", "-ltorch_python", "-lc10"]
            command = [compiler, *flags, *(f"-I{path}" for path in includes), str(source), "-o", str(aside), *linked]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"the stand-in for a GPU cannot be compiled:\n{done.stderr}")
            aside.replace(library)
    return library


def _imported(library: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(library))
    spec = importlib.util.spec_from_loader(NAME, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _module(backend: ModuleType) -> ModuleType:
    """What ``torch.cuda`` has, as far as it is asked for: ``torch.standin``."""
    module = ModuleType(f"torch.{NAME}")

    class device:  # noqa: N801 - as torch.cuda calls it
        def __init__(self, index: Any) -> None:
            self._index = index if isinstance(index, int) else _index(index)

        def __enter__(self) -> None:
            self._before = backend.current_device()
            if self._index >= 0:
                backend.set_device(self._index)

        def __exit__(self, *_: Any) -> None:
            backend.set_device(self._before)

    def _index(which: Any) -> int:
        found = which if isinstance(which, int) else torch.device(which).index
        return backend.current_device() if found is None else int(found)

    def set_rng_state(state: torch.Tensor, which: Any = NAME) -> None:
        backend.default_generator(_index(which)).set_state(state)

    def manual_seed_all(seed: int) -> None:
        for index in range(backend.device_count()):
            backend.default_generator(index).manual_seed(seed)

    names = {
        "device": device,
        "device_count": backend.device_count,
        "current_device": backend.current_device,
        "set_device": lambda which: backend.set_device(_index(which)),
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "synchronize": lambda which=None: backend.synchronize(),
        "empty_cache": lambda: None,
        "get_device_name": lambda which=NAME: f"stand-in {_index(which)}",
        "get_device_properties": lambda which: f"properties of {NAME}:{_index(which)}",
        "mem_get_info": lambda which=NAME: (2**30, 2**30),
        "get_rng_state": lambda which=NAME: backend.default_generator(_index(which)).get_state(),
        "set_rng_state": set_rng_state,
        "manual_seed": lambda seed: backend.default_generator(backend.current_device()).manual_seed(seed),
        "manual_seed_all": manual_seed_all,
        "get_amp_supported_dtype": lambda: [torch.float16, torch.bfloat16],
        "_is_in_bad_fork": lambda: False,
    }
    for name, value in names.items():
        setattr(module, name, value)
    return module


class Seen:
    """What was told, by the line of this repository that asked for it."""

    def __init__(self) -> None:
        self.lines: Counter[tuple[str, str]] = Counter()

    def __call__(self, what: str) -> None:
        """Take down one thing that happened."""
        own = [f for f in traceback.extract_stack() if f.filename.startswith(str(ROOT)) and "standin" not in f.filename]
        where = f"{Path(own[-1].filename).relative_to(ROOT)}:{own[-1].lineno}" if own else "autograd or torch"
        self.lines[what, where] += 1

    def waits(self) -> Counter[tuple[str, str]]:
        """What a GPU's queue would have been waited for."""
        return Counter({key: n for key, n in self.lines.items() if key[0].startswith("wait")})


@contextmanager
def watching() -> Iterator[Seen]:
    """Take down waits and transfers meanwhile."""
    seen, backend = Seen(), load()
    backend.listen(seen)
    try:
        yield seen
    finally:
        backend.listen(None)
