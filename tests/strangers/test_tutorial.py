"""The first hour: the tutorial's commands, in their order, do what the page says; so do the notebook's cells."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.strangers.test_pages import blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"
NOTEBOOK = ROOT / "docs" / "first_hour.ipynb"
CHECKPOINTS = "runs/dense/*/checkpoints/*.ckpt"
# What stands after `make run` in a shell whose environment is active already.
SHELL = {"make run": "prunekit train experiment=digits_region", "source .venv/bin/activate": ""}


def lines() -> list[str]:
    """The commands of the page, one each."""
    shown = "".join(content for language, content in blocks(TUTORIAL.read_text()) if not language)
    return shown.replace("\\\n", " ").splitlines()


def recipe(target: str) -> str:
    """What the Makefile runs for a target, in one line."""
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ").replace("$(BIN)/", "")
    (found,) = re.findall(rf"^{target}:.*\n\t(.*)", text, re.MULTILINE)
    return re.sub(r"\s+", " ", found)


def start(line: str, folder: Path) -> subprocess.Popen[str]:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": paths, "OMP_NUM_THREADS": "1", "PRUNEKIT_DATA_DIR": str(folder / "none")}
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # In a group of its own, as a terminal's foreground job is: Ctrl-C reaches all of it.
    return subprocess.Popen(["bash", "-c", line], cwd=folder, env=os.environ | own, start_new_session=True, **told)


def stop(job: subprocess.Popen[str], folder: Path, before: set[Path]) -> str:
    """Press Ctrl-C as soon as the job has saved a checkpoint that was not there before."""
    while not set(folder.glob(CHECKPOINTS)) - before:
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGINT)
    return job.communicate(timeout=120)[0]


def test_what_make_runs_is_what_the_page_says():
    assert recipe("run") == SHELL["make run"]
    (actions,) = [line for line in lines() if "synthetic_te" in line]
    assert re.sub(r"\s+", " ", actions) == f"{recipe('run-actions')} run_dir=first/actions"


@pytest.fixture
def ctrl_c_reaches_children():
    """Where tests run as a shell's background job Ctrl-C is ignored, by all that they start as well."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_reaches_children")
def test_each_command_does_what_the_page_says(tmp_path):
    told = {}
    for line in lines():
        before = set(tmp_path.glob(CHECKPOINTS))
        job = start(SHELL.get(line, line), tmp_path)
        if "# Ctrl-C" in line:
            told["stopped"] = stop(job, tmp_path, before)
            assert job.returncode == 128 + signal.SIGINT, told["stopped"]
        else:
            told[line] = job.communicate()[0]
            assert job.returncode == 0, told[line]
    first, again, explained, swept, reported, resumed, trained, exported, predicted = [
        told[line] for line in lines() if line in told and SHELL.get(line, line)
    ]
    assert "dense training" in first
    assert "dense network: taken from" in again
    assert "decisions.png" in {file.name for file in (tmp_path / "first/digits/explain").iterdir()}, explained
    assert "6 jobs, 6 finished" in swept
    assert len((tmp_path / "runs/first_sweep/report/results.csv").read_text().splitlines()) == 7, reported
    (saved,) = re.findall(r"the same command goes on from (\S+)", told["stopped"])
    assert (Path(saved).parents[1] / "dense.ckpt").is_file(), resumed
    assert (tmp_path / "first/actions/results.json").is_file(), trained
    assert (tmp_path / "first/actions/export/compact.safetensors").is_file(), exported
    assert re.search(r"Brighten +│ +\d", predicted), predicted


def test_the_notebook_runs_and_shows_pictures_and_a_table(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    shown = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.source for cell in shown if cell.outputs or cell.execution_count] == []  # it lies here stripped
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    outputs = [output for cell in shown for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    text = "".join(output.get("text", "") for output in outputs)
    assert "memory  GRU     64 -> 32" in text
    before, after = (float(each) for each in re.findall(r"([\d.]+)% -> ([\d.]+)%", text)[0])
    assert after > before - 5 > 85
    assert [output for output in outputs if output.output_type == "stream" and output.name == "stderr"] == []
