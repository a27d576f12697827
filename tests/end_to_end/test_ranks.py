"""Two DDP processes do what one does: the same masks, steps and global batch, and each test sample once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from prunekit.app.checkpoint_file import read_checkpoint
from prunekit.callbacks.checkpoints import list_checkpoints

pytestmark = pytest.mark.slow


def run(*command: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=cwd, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_ranks_hold_one_mask_and_count_every_sample_once(tmp_path):
    saw = {}
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        run("-m", "tests.end_to_end.two_ranks", str(folder), str(devices), cwd=Path(__file__).parents[2])
        saw[devices] = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(devices)]
    (alone,), (first, second) = saw[1], saw[2]
    assert (alone["world"], first["world"], first["buffers"]) == (1, 2, 0)
    assert first["mask"] == second["mask"]
    assert first["weights"] == second["weights"]
    assert first["steps"] == second["steps"] == alone["steps"] == 9 * 144
    assert alone["sizes"] == [7, 10]  # 1,437 samples in batches of 10
    assert first["sizes"] == second["sizes"] == [3, 5]
    assert first["samples"] == second["samples"] == 9 * (143 * 5 + 3)
    assert first["tested"] + second["tested"] == alone["tested"] == 360
    assert first["accuracy"] == second["accuracy"] == first["accuracy alone"]
    assert alone["accuracy"] == alone["accuracy alone"]
    assert abs(first["accuracy"] - alone["accuracy"]) < 0.04


def test_the_command_trains_prunes_and_continues_on_two_ranks(tmp_path):
    short = (
        "-m", "prunekit", "train", "trainer=ddp", "trainer.accelerator=cpu", "dense_epochs=2", "run_dir=run",
        "trainer.limit_train_batches=12", "callbacks.region_mean_mask.retrain_epochs=1", "paths.runs_dir=runs",
        "~callbacks.heatmaps",
    )  # fmt: skip
    output = run(*short, cwd=tmp_path)
    assert output.count("neurons alive") == 1  # only one rank prints
    folder = tmp_path / "run"
    results = json.loads((folder / "results.json").read_text())
    mask = load_file(folder / "masks.safetensors")["layers.hidden1.weight"]
    removed = int((~mask).sum())
    assert results["sparsity"]["achieved"]["layers.hidden1.weight"] == removed / mask.numel()
    checkpoint = list_checkpoints(folder / "checkpoints")[-1]
    assert read_checkpoint(checkpoint).epochs_done == 3
    (folder / "results.json").unlink()
    run(*short, cwd=tmp_path)
    again = json.loads((folder / "results.json").read_text())
    assert again["metrics"] == results["metrics"]
    assert again["events"] == results["events"]
