"""What a wheel installs is one package, and it works for somebody who has callbacks and a conf/ of his own."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import SHORT

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "prunekit", "callbacks", "data_modules", "conf")
HAS_SETUPTOOLS = int(importlib.metadata.version("setuptools").split(".")[0]) >= 77
# No folder of the repo on the path, whatever this process was started with.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
LOAD = """\
import sys
import torch
from prunekit import exports
assert exports.load_compact("run/export")(torch.zeros(2, 784)).shape == (2, 10)
assert not {"pytorch_lightning", "lightning", "hydra", "omegaconf"} & set(sys.modules)
print(exports.__file__)
"""


def call(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with its links, without what earlier builds left there."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    isolation = ["--no-build-isolation"] if HAS_SETUPTOOLS else []
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", *isolation, "--wheel-dir", "dist", ".", cwd=source)
    return next((source / "dist").glob("*.whl"))


def packed(source: Path) -> set[str]:
    """The files that have to be in the package, by what is on disk behind its links."""
    files = [
        Path(folder, name) for folder, _, names in os.walk(source / "prunekit", followlinks=True) for name in names
    ]
    return {file.relative_to(source).as_posix() for file in files}


def test_it_holds_the_whole_package_and_no_other(source, wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (top,) = [archive.read(name) for name in archive.namelist() if name.endswith("top_level.txt")]
    assert top.decode().split() == ["prunekit"]
    assert names == packed(source)
    for name in ("callbacks/l2_mask.py", "data_modules/mnist.py", "conf/experiment/digits_region.yaml", "py.typed"):
        assert f"prunekit/{name}" in names


@pytest.mark.skipif(not HAS_SETUPTOOLS, reason="the source distribution is built by setuptools 77 or newer")
def test_the_source_distribution_holds_the_same(source, wheel):
    call(sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('dist')", cwd=source)
    with tarfile.open(next((source / "dist").glob("*.tar.gz"))) as archive:
        files = {member.name.partition("/")[2] for member in archive if not member.isdir()}
        assert not [member.name for member in archive if member.issym()]
    assert {name for name in files if name.startswith("prunekit/")} == packed(source)
    assert {name.split("/")[0] for name in files if "/" in name} == {"prunekit", "prunekit.egg-info"}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment, which has the wheel and all else from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    programs = Path(sysconfig.get_path("scripts", "venv", {"base": str(folder)}))
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    call(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    # The .pth files there, one of which leads to the repo, are not read.
    others = [folder for folder in sys.path if Path(folder).name in ("site-packages", "dist-packages")]
    (packages / "others.pth").write_text("\n".join(others))
    return programs


def test_it_trains_exports_and_loads_beside_a_strangers_modules(installed, tmp_path):
    for name in ("callbacks", "data_modules", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('the strangers own')")
    (tmp_path / "conf" / "train.yaml").write_text("theirs: true")
    quick = ("trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "~callbacks.heatmaps", "run_dir=run")
    printed = call(installed / "prunekit", "train", *SHORT, *quick, f"paths.runs_dir={tmp_path / 'runs'}", cwd=tmp_path)
    assert "retrained" in printed
    call(installed / "prunekit", "export", "run", cwd=tmp_path)
    loaded = call(installed / "python", "-c", LOAD, cwd=tmp_path)
    assert Path(loaded.strip()).is_relative_to(installed.parent)
