"""The README's commands after the installation, run as they stand there; the long one on a few batches an epoch."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FEW = {"experiment=mnist_explain": ["trainer.limit_train_batches=5", "~callbacks.heatmaps"]}  # else ten minutes


def commands():
    """Of the block that begins with a plain ``prunekit train``, split into words."""
    (text,) = re.findall(r"```\n(prunekit train  .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [shlex.split(line, comments=True) for line in text.replace("\\\n", " ").splitlines()]


@pytest.mark.slow
def test_the_readmes_commands_run_one_after_the_other(tmp_path, real_data):
    environment = os.environ | {"PRUNEKIT_DATA_DIR": str(real_data), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    found = commands()
    assert [words[:2] for words in found] == [
        ["prunekit", word] for word in ("train", "explain", "train", "train", "export")
    ]
    for words in found:
        for number, word in enumerate(words):
            if word.endswith("/HASH"):
                (run,) = (tmp_path / word).parent.glob("seed-0__*")
                words[number] = word.replace("HASH", run.name.rpartition("__")[2][:4])
        words += [more for key, own in FEW.items() if key in words for more in own]
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stderr}"
        if words[1] == "train":
            assert "next:        prunekit " in done.stdout
    assert list(tmp_path.glob("runs/digits_region/*/explain/decisions.png"))
    (export,) = tmp_path.glob("runs/synthetic_te/*/export")
    assert (export / "network.json").is_file()
