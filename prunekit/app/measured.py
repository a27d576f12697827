"""What a run has found out when it is over: its results but for what it keeps."""

from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.callbacks import Callback
from torch import nn

from prunekit import gpu
from prunekit.accounting import account, macs
from prunekit.app import results as leave
from prunekit.app.config import Config
from prunekit.app.control import TEACHER, teacher_of
from prunekit.app.frame_cost import frame_cost
from prunekit.app.setting import Setting, Shared
from prunekit.callbacks.curves import Curves
from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.mask_holder import current_mask
from prunekit.callbacks.measure import TEST, batches_of, evaluating, has_part, on_device, watched_part
from prunekit.callbacks.pruning import Pruning
from prunekit.callbacks.unit_curve import UnitCurve
from prunekit.callbacks.unit_mask import UnitMask
from prunekit.units.grouping import Units


def measured(
    setting: Setting,
    trainer: pl.Trainer,
    module: pl.LightningModule,
    data: Any,
    callbacks: dict[str, Callback],
    shared: Shared,
    seconds: float,
    teacher: pl.LightningModule | None = None,
) -> dict[str, Any]:
    """What the run has found out, with what its network costs, and what one that taught it does."""
    curves = next(callback for callback in callbacks.values() if isinstance(callback, Curves))
    pruners = [callback for callback in callbacks.values() if isinstance(callback, Pruning)]
    mask, device = current_mask(trainer), trainer.strategy.root_device
    # Without an event the final network is the dense one.
    metric = curves.metric
    dense = curves.dense_test if curves.events else curves.final_test
    pruned = curves.events[-1][f"test_{metric.key}"] if curves.events else dense
    tested = {"dense": dense, "pruned": pruned, "final": curves.final_test}
    sparsity = leave.sparsity(module, mask, {callback.name: callback.rate for callback in pruners})
    sparsity["achieved"] |= {name: share for callback in pruners for name, share in callback.achieved().items()}
    with evaluating(module, device):
        part = TEST if has_part(trainer, TEST, curves.data) else watched_part(trainer, curves.data)
        batch = next(iter(on_device(trainer, batches_of(trainer, part, curves.data))))
        one = apply_to_collection(batch, torch.Tensor, lambda tensor: tensor[:1])
        predict = nn.Module.__call__ if curves.predict is None else lambda network, x: curves.predict(network, x)[0]
        example = one[0] if curves.predict is None else one
        held = sum(int((value != 0).sum()) for value in mask.held.values())
        pairs = recurrent(callbacks.values())
        cost = account(module, mask.removed() - held, pairs, example, predict, known=shared.costs)
    if teacher is not None:
        with evaluating(teacher, device):
            cost["macs"] |= {TEACHER: macs(teacher, example, predict)}
    cost |= frame_cost(module, pairs if curves.events else [], data, shared.costs)
    reports = {
        name: report
        for name, callback in callbacks.items()
        if isinstance(callback, Pruning | PruningObserver) and (report := callback.report())
    }
    regularization = setting.config["model"].get("regularization")
    return {
        "experiment": setting.config["name"],
        "seed": setting.config["seed"],
        "config_hash": setting.config_hash,
        **leave.provenance(),
        **({"data": report} if (report := getattr(data, "report", dict)()) else {}),
        "device": device.type if device.type == "cpu" else gpu.name(device),
        "threads": torch.get_num_threads(),
        "seconds": {"train": seconds, "prune": sum(c.seconds for c in pruners), "test": curves.seconds},
        "metrics": {f"{when}/test_{metric.key}": value for when, value in tested.items()},
        **leave.described(metric),
        **({} if curves.chance is None else {"chance": dict(zip(("acc", "samples"), curves.chance, strict=True))}),
        "sparsity": sparsity,
        **cost,
        "events": curves.events,
        **({"regularization": regularization} if regularization else {}),
        "callbacks": reports,
    }


def training(config: Config, trainer: pl.Trainer, epochs: int, costs: dict[str, int]) -> dict[str, Any]:
    """What training has taken: epochs over samples, of so many multiply-adds each, forwards alone.

    Units that are only masked are computed all the same, so a retraining costs what the dense network's does. What it
    took to train a dense network that taught is counted; what this one says while it teaches is not.

    Args:
        config: the run's.
        trainer: that trained.
        epochs: of the run's own network.
        costs: multiply-adds of a sample, of the ``dense`` network and of a ``teacher`` if there is one.
    """
    batches, size = trainer.num_training_batches, config["data"].get("batch_size")
    samples = int(batches * size) if size is not None and batches != float("inf") else None
    before = (teacher_of(config) or {}).get("dense_epochs", 0)
    work = None if samples is None else samples * (epochs * costs["dense"] + before * costs.get(TEACHER, 0))
    return {"epochs": epochs, "samples": samples, "macs": work}


def recurrent(callbacks: Iterable[Callback]) -> list[tuple[str, str]]:
    """Names of the recurrent layers that are pruned or measured, and of what reads them."""
    callbacks = list(callbacks)
    groupings = [callback.grouping for callback in callbacks if isinstance(callback, Pruning | UnitCurve)]
    named = [(each.layer, each.head) for each in groupings if isinstance(each, Units)]
    named += [(each.lstm, each.head) for each in callbacks if isinstance(each, UnitMask)]
    return [(layer, head) for layer, head in dict.fromkeys(named) if head is not None]
