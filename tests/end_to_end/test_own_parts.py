"""Runs with parts that are somebody's own: data that tell nothing of themselves, other loggers, other names."""

import csv

import pytest
import pytorch_lightning as pl

from prunekit.app.errors import ConfigError
from prunekit.data_modules.digits import Digits
from prunekit.errors import ArgumentError

CSV = "_target_=pytorch_lightning.loggers.CSVLogger"
OWN = (
    "data._target_=tests.end_to_end.test_own_parts.Plain",
    "~data.validation",
    "~data.seed",
    "~data.size",
    "~data.eval_batch_size",
)


class Plain(pl.LightningDataModule):
    """A data module that knows nothing of prunekit, but that it may refuse to be trained on."""

    def __init__(self, batch_size: int, refused: str | None = None) -> None:
        super().__init__()
        self.digits, self.refused = Digits(batch_size, 0.1, seed=0), refused
        self.digits.setup()

    def train_dataloader(self):
        if self.refused:
            raise ArgumentError("refused", self.refused, "null", self)
        return self.digits.train_dataloader()

    def val_dataloader(self):
        return self.digits.val_dataloader()

    def test_dataloader(self):
        return self.digits.test_dataloader()


def test_data_that_tell_nothing_of_themselves_are_known_by_their_config(short_run, caplog):
    run = short_run(*OWN, "data.batch_size=10")
    results = run.go()
    assert "data" not in results
    assert "Plain has no fingerprint()" in caplog.text
    assert len(list((run.home / "dense").iterdir())) == 1
    short_run(*OWN, "data.batch_size=20").go()
    assert len(list((run.home / "dense").iterdir())) == 2


def test_what_is_refused_in_the_middle_of_a_run_has_its_full_key(short_run):
    with pytest.raises(ConfigError, match=r"^data\.refused: got 'so'; accepted: null"):
        short_run(*OWN, "data.batch_size=10", "+data.refused=so").go()


def test_a_run_writes_into_any_loggers(short_run):
    run = short_run("~logger", f"+logger.one.{CSV}", f"+logger.two.{CSV}", "+logger.two.name=two")
    results = run.go()
    for name in ("lightning_logs", "two"):
        (file,) = (run.folder / name).rglob("metrics.csv")
        rows = list(csv.DictReader(file.read_text().splitlines()))
        assert float(rows[-1]["final/test_acc"]) == results["metrics"]["final/test_acc"]
    assert results["metrics"] == short_run("~logger").go()["metrics"]
