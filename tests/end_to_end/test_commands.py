"""The command line, as a user types it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def prunekit(tmp_path: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prunekit.app.train", f"paths.runs_dir={tmp_path / 'runs'}", *overrides]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)


SHORT = ("dense_epochs=1", "trainer.limit_train_batches=12", "callbacks.region_mean_mask.retrain_epochs=1")


def test_a_run_prints_a_table_and_where_things_are(tmp_path):
    done = prunekit(tmp_path, *SHORT)
    assert done.returncode == 0, done.stderr
    for words in ("dense", "pruned", "retrained", "sparsity of layers.hidden1.weight", "neurons alive", "tensorboard"):
        assert words in done.stdout
    assert "dense training" in done.stdout + done.stderr  # the progress bar
    (figures,) = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("figures:")]
    assert len(list(Path(figures).glob("*.png"))) == 10
    again = prunekit(tmp_path, *SHORT)
    assert "this run had finished" in again.stdout
    assert again.stdout.count("retrained") == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("callbacks.l2_mask.rate=1.5", "error: callbacks.l2_mask.rate: got 1.5; accepted: a number from 0 to 1"),
        ("experiment=nothing", "nothing"),
        ("callbacks.l2_mask.ratio=0.5", "ratio"),
    ],
)
def test_an_error_is_one_message_and_no_traceback(override, message, tmp_path):
    done = prunekit(tmp_path, override)
    assert done.returncode != 0
    assert message in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
