"""Controls: the run that a pruned one has to be held against, made of the same config.

Whether pruning is worth it is asked by networks that were never pruned: one of the pruned size from scratch, with as
much training, and the dense one trained on for as long as the pruned one was.
"""

from omegaconf import DictConfig, open_dict

from prunekit.app.errors import ConfigError
from prunekit.errors import check_choice, check_count, check_rate
from prunekit.selection import exact_count

SCRATCH, SCRATCH_RETRAINING, AS_MANY_EPOCHS = "scratch", "scratch_retraining", "as_many_epochs"
CONTROLS = (SCRATCH, SCRATCH_RETRAINING, AS_MANY_EPOCHS)


def controlled(cfg: DictConfig) -> DictConfig:
    """The config of a control in place of the run that prunes; the same config where ``control`` is null.

    ``scratch``: as many units as pruning leaves, from new weights, for as many epochs as dense training and retraining
    take; ``scratch_retraining``: for as many as the retraining alone; ``as_many_epochs``: the dense network for all of
    them. Nothing is pruned, so the criterion has no say: controls of several criteria are one run.

    Args:
        cfg: composed, unresolved.

    Raises:
        ConfigError: if the run that it is the control of prunes no units, or units of some layers only.

    Example:
        >>> from omegaconf import OmegaConf
        >>> mask = {"rate": 0.9, "rounds": 1, "retrain_epochs": 2}
        >>> run = {"control": "scratch", "dense_epochs": 5, "model": {"units": 128}, "callbacks": {"unit_mask": mask}}
        >>> found = controlled(OmegaConf.create(run))
        >>> found.model.units, found.dense_epochs, list(found.callbacks)
        (13, 7, [])
    """
    control = cfg.get("control")
    if control is None:
        return cfg
    check_choice("control", control, CONTROLS)
    mask = cfg.callbacks.get("unit_mask")
    if mask is None:
        raise ConfigError("control", control, "null, or with callbacks.unit_mask: it is the control of a run with that")
    rate = check_rate("callbacks.unit_mask.rate", mask.rate)
    rounds = check_count("callbacks.unit_mask.rounds", mask.get("rounds", 1), least=1)
    retrained = rounds * check_count("callbacks.unit_mask.retrain_epochs", mask.get("retrain_epochs", 0))
    made = cfg.copy()
    with open_dict(made):
        del made.callbacks["unit_mask"]
        made.callbacks.pop("unit_curve", None)
        made.criterion = None
        made.dense_epochs = retrained if control == SCRATCH_RETRAINING else cfg.dense_epochs + retrained
        if control != AS_MANY_EPOCHS:
            made.model.units = _left(cfg, mask, rate)
    if not made.dense_epochs:
        key = "callbacks.unit_mask.retrain_epochs"
        raise ConfigError(key, 0, f"1 or more with control={control}, which is trained for as long")
    return made


def _left(cfg: DictConfig, mask: DictConfig, rate: float) -> int:
    """How many units a layer keeps."""
    units = check_count("model.units", cfg.model.get("units"), least=1)
    if cfg.model.get("layers", 1) > 1 and mask.get("layers", "last") != "every":
        got = f"{cfg.model.layers}, of which the last alone loses units"
        raise ConfigError("model.layers", got, "1, or callbacks.unit_mask.layers=every, with a control from scratch")
    if mask.get("granularity", "unit") != "unit":
        raise ConfigError("callbacks.unit_mask.granularity", mask.granularity, "unit, with a control from scratch")
    left = units - exact_count(rate, units)
    if not left:
        raise ConfigError("callbacks.unit_mask.rate", rate, "a rate that leaves a unit, with a control from scratch")
    return left
