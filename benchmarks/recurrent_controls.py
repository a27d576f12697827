"""Is pruning worth it, task by task: ``python -m benchmarks.recurrent_controls [TASK ...]``.

Runs sweeps of ``prunekit train -m`` for each task, then ``prunekit compare`` over all of them. Each sweep finds what
earlier ones have left, so the same command goes on where it was cut off. On each network are tried: every criterion,
transfer entropy with bins of equal width and of equal counts, in both orders without repair, and the lowest scores
first repaired in open and in closed loop, all without retraining; repair and one or four epochs, by labels and by a
teacher, of chosen and of random units; networks that a group lasso has drawn together while they were trained; and as
controls networks of the pruned size from scratch, by labels or taught by the dense one, for as long and for four times
as long, the dense one for as many epochs, as many single weights gone as units would take, and weights of a rank at
which a step takes as many multiply-adds.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

LONGER = (1, 4)  # epochs from scratch that a retraining of one is held against


class Task(NamedTuple):
    """An experiment, its dense epochs, what tells its networks apart beside seeds, what else is set, what is tried.

    The group lasso's strength is the largest of 0.003, 0.01, 0.03, 0.1 with which the dense network of seed 0
    is no worse on validation data than without, by more than a point of accuracy or a hundredth of another metric.
    """

    experiment: str
    dense: int
    networks: Sequence[str] = ()
    settings: Sequence[str] = ()
    lasso: float = 0.001
    rates: Sequence[float] = (0.5, 0.8)
    epochs: Sequence[int] = (1, 4)
    layer: str = "recurrent"


TASKS = {
    "digits": Task("spoken_digits_units", 20, ["data.fold=0,1,2"]),
    "rows": Task("mnist_rows_units", 4, settings=["data.scoring=4000"], lasso=0.01),
    "jsb": Task("jsb_units", 80, lasso=0.1),
    "nottingham": Task("nottingham_units", 30, settings=["data.scoring=200"]),
    "ucf101": Task(
        "ucf101_compact",
        20,
        ["data.split=official1,official2,official3"],
        ["data.allow_missing=true", "callbacks.unit_mask.compensation=closed_loop"],
        rates=[0.5, 0.95],
        layer="lstm",
    ),
    "words": Task("ptb_units", 6, rates=[0.5], epochs=[1]),
}


def sweeps(task: Task) -> Iterator[list[str]]:
    """The overrides of each of a task's sweeps."""
    at, least = ",".join(map(str, task.rates)), min(task.epochs)
    base = [f"experiment={task.experiment}", f"dense_epochs={task.dense}", *task.networks, *task.settings]
    curve = [
        "callbacks=[unit_curve,curves,checkpoints,progress]", "~callbacks.unit_mask",
        f"callbacks.unit_curve.lstm={task.layer}", "callbacks.unit_curve.layers=every",
        "callbacks.unit_curve.scope=within", f"callbacks.unit_curve.rates=[0.0,{at}]",
        "+criterion@callbacks.unit_curve.criteria.standard_deviation=standard_deviation",
        "+criterion@callbacks.unit_curve.criteria.transfer_entropy_quantile=transfer_entropy",
        "callbacks.unit_curve.criteria.transfer_entropy_quantile.edges=quantile",
    ]  # fmt: skip
    yield [*base, *curve]
    repaired = ["callbacks.unit_curve.orders=[ascending]", "callbacks.unit_curve.compensation=linear,closed_loop"]
    yield [*base, *curve, *repaired]
    base.append(f"callbacks.unit_mask.rate={at}")
    epochs = f"callbacks.unit_mask.retrain_epochs={','.join(map(str, task.epochs))}"
    once = f"callbacks.unit_mask.retrain_epochs={least}"
    yield [*base, epochs, "criterion=reconstruction"]
    yield [*base, f"callbacks.unit_mask.retrain_epochs={','.join(map(str, LONGER))}", "control=scratch_retraining"]
    yield [*base, once, "criterion=random"]
    yield [*base, epochs, "+callbacks=teacher"]
    yield [*base, "callbacks.unit_mask.retrain_epochs=0", "control=scratch,distilled,single_weights,low_rank"]
    yield [*base, epochs, "control=scratch,distilled,distilled_retraining,single_weights"]
    yield [*base, f"callbacks.unit_mask.retrain_epochs={3 * task.dense}", "control=scratch,distilled"]
    # What is not pruned is the same at every rate, and taken for all of them.
    yield [*base[:-1], f"callbacks.unit_mask.rate={task.rates[0]}", epochs, "control=as_many_epochs"]
    drawn = [
        *base, "+callbacks=group_lasso", "dense_callbacks=[group_lasso]", "criterion=l1_norm",
        f"callbacks.group_lasso.strength={task.lasso}", f"callbacks.group_lasso.grouping.layers=[{task.layer}]",
    ]  # fmt: skip
    yield [*drawn, "callbacks.unit_mask.retrain_epochs=0", "callbacks.unit_mask.compensation=none,closed_loop"]
    yield [*drawn, once]


def main() -> None:
    """Run what is missing, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=f"of {', '.join(TASKS)}; default: all")
    parser.add_argument("--seeds", type=int, default=5, help="networks of a task, or of each of its folds")
    parser.add_argument("--also", nargs="*", default=[], help="overrides for all, as data.backbone.weights=FILE")
    parser.add_argument("--threads", type=int, default=1, help="of a job: sums differ in their last bits with it")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where all runs lie")
    parser.add_argument("--out", type=Path, default=Path("compared"), help="a folder for what comes out")
    given = parser.parse_args()
    if unknown := [name for name in given.tasks if name not in TASKS]:
        parser.error(f"got {unknown[0]}; accepted: {', '.join(TASKS)}")
    threads = str(given.threads)
    train = [sys.executable, "-m", "prunekit", "train", "-m", f"seed={','.join(map(str, range(given.seeds)))}"]
    train += [f"threads={threads}", "trainer.enable_progress_bar=false", f"paths.runs_dir={given.runs}", *given.also]
    failed = 0
    for name in given.tasks:
        for overrides in sweeps(TASKS[name]):
            print(f"\n{name}: {' '.join(overrides)}", flush=True)
            started = time.perf_counter()
            done = subprocess.run([*train, *overrides], env={**os.environ, "OMP_NUM_THREADS": threads}, check=False)
            failed += done.returncode != 0
            print(f"{name}: {time.perf_counter() - started:.0f} s, status {done.returncode}", flush=True)
    folders = [str(given.runs / TASKS[name].experiment) for name in given.tasks]
    compared = subprocess.run(
        [sys.executable, "-m", "prunekit", "compare", *folders, "--out", str(given.out)], check=False
    )
    sys.exit(1 if failed or compared.returncode else 0)


if __name__ == "__main__":
    main()
