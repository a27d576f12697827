"""Controls: the run that a pruned one has to be held against, made of the same config.

Whether pruning is worth it is asked by networks that were never pruned: one of the pruned size from scratch, with as
much training, and the dense one trained on for as long as the pruned one was. Where there are no labels, the one from
scratch can be taught by the dense network. What units cost because they go whole is asked by one that loses as many
single weights; and what else no labels and seconds would buy, by its weights at a low rank.
"""

import copy
from collections.abc import Mapping
from typing import Any

from prunekit.app.config import Config
from prunekit.app.errors import ConfigError
from prunekit.errors import check_choice, check_count, check_rate
from prunekit.selection import exact_count

SCRATCH, SCRATCH_RETRAINING, AS_MANY_EPOCHS = "scratch", "scratch_retraining", "as_many_epochs"
DISTILLED, DISTILLED_RETRAINING = "distilled", "distilled_retraining"
SINGLE_WEIGHTS, LOW_RANK = "single_weights", "low_rank"
CONTROLS = {  # in words, as criteria are named, since they lie beside these
    SCRATCH: "from scratch",
    SCRATCH_RETRAINING: "from scratch, as long as retraining",
    DISTILLED: "from scratch, taught",
    DISTILLED_RETRAINING: "from scratch, taught, as long as retraining",
    AS_MANY_EPOCHS: "not pruned, as many epochs",
    SINGLE_WEIGHTS: "as many single weights",
    LOW_RANK: "low rank, as many multiply-adds",
}
TAUGHT = (DISTILLED, DISTILLED_RETRAINING)
ALONE = (SCRATCH_RETRAINING, DISTILLED_RETRAINING)  # trained for as long as the retraining alone
TEACHER = "teacher"  # what a taught control's config says of the dense network, and the callback's name
MASK = "callbacks.unit_mask"
TEACHES = "prunekit.callbacks.teacher.Teacher"
OF_DENSE = {  # what the dense network loses in place of units, by a callback, and what that takes of the units' own
    SINGLE_WEIGHTS: ("weights_of_units", "prunekit.callbacks.weights_of_units.WeightsOfUnits"),
    LOW_RANK: ("low_rank_weights", "prunekit.callbacks.low_rank_weights.LowRankWeights"),
}
OF_UNITS = ("rate", "lstm", "head", "layers", "start_epoch")


def controlled(config: Config) -> Config:
    """The config of what is trained in place of a run that removes units; the same config where ``control`` is null.

    ``scratch``: as many units as pruning leaves, from new weights, for as many epochs as dense training and retraining
    take together; ``scratch_retraining``: for as many as the retraining alone; ``as_many_epochs``: the dense network
    for all of them, whatever is pruned; ``distilled`` and ``distilled_retraining``: the two from scratch, but taught by
    the dense network's outputs, without labels; ``single_weights``: the dense network, which loses as many single
    weights, of smallest magnitude, and is retrained as the pruned one; ``low_rank``: the dense network, its weights at
    a rank at which a step takes as many multiply-adds, not retrained. The criterion has no say, so controls of several
    criteria share their training.

    Args:
        config: resolved; it stays as it is.

    Raises:
        ConfigError: if the run that it is the control of prunes no units, or some that a smaller network cannot lack;
            for ``as_many_epochs``, if it prunes nothing; for ``low_rank``, if it is retrained.

    Example:
        >>> mask = {"lstm": "recurrent", "rate": 0.9, "rounds": 1, "retrain_epochs": 2}
        >>> run = {"control": "scratch", "dense_epochs": 5, "model": {"units": 128}, "callbacks": {"unit_mask": mask}}
        >>> found = controlled(run)
        >>> found["model"], found["dense_epochs"], found["callbacks"]
        ({'units': 13}, 7, {})
    """
    control = config.get("control")
    if control is None:
        return config
    check_choice("control", control, list(CONTROLS))
    if control == AS_MANY_EPOCHS and "unit_mask" not in config["callbacks"]:
        return _as_many_epochs(config)
    mask = _mask(config)
    rounds = check_count(f"{MASK}.rounds", mask.get("rounds", 1), least=1)
    retrained = rounds * check_count(f"{MASK}.retrain_epochs", mask.get("retrain_epochs", 0))
    made = copy.deepcopy(config)
    made["callbacks"] = _without_units(made["callbacks"])
    made["criterion"] = None
    if control in OF_DENSE:
        _require_units(mask)
        if control == LOW_RANK and retrained:
            raise ConfigError(f"{MASK}.retrain_epochs", retrained // rounds, f"0 with control={LOW_RANK}")
        name, target = OF_DENSE[control]
        keys = [*OF_UNITS, *(("rounds", "retrain_epochs") if control == SINGLE_WEIGHTS else ())]
        own = {"_target_": target, **{key: mask[key] for key in keys if key in mask}}
        made["callbacks"] = {name: own, **made["callbacks"]}
        return made
    made["dense_epochs"] = retrained + (0 if control in ALONE else config["dense_epochs"])
    if not made["dense_epochs"]:
        raise ConfigError(
            f"{MASK}.retrain_epochs", 0, f"1 or more with control={control}, which is trained for as long"
        )
    if control != AS_MANY_EPOCHS:
        made["model"]["units"] = _left(config, mask)
    if control in TAUGHT:
        named = list(config.get("dense_callbacks", []))
        of_dense = {"callbacks": made["callbacks"], "dense_callbacks": named}
        made[TEACHER] = {"model": config["model"], "dense_epochs": config["dense_epochs"], **of_dense}
        teaches = config["callbacks"].get(TEACHER, {"_target_": TEACHES})
        made |= {"callbacks": {**made["callbacks"], TEACHER: teaches}, "dense_callbacks": [*named, TEACHER]}
    return made


def _as_many_epochs(config: Config) -> Config:
    """The dense network for all epochs of a run that prunes something else than units."""
    pruners = {name: node for name, node in config["callbacks"].items() if "retrain_epochs" in node}
    if not pruners:
        raise ConfigError("control", AS_MANY_EPOCHS, "null: there is nothing pruned, so all runs are trained as long")
    made = copy.deepcopy(config)
    counts = [
        [check_count(f"callbacks.{name}.{key}", node.get(key, absent))
         for key, absent in (("start_epoch", config["dense_epochs"]), ("rounds", 1), ("retrain_epochs", 0))]
        for name, node in pruners.items()
    ]  # fmt: skip
    made["dense_epochs"] = max([config["dense_epochs"], *(start + rounds * each for start, rounds, each in counts)])
    others = {name: node for name, node in made["callbacks"].items() if name not in pruners}
    made["callbacks"] = _without_units(others)
    return made


def _without_units(callbacks: Config) -> Config:
    """But for those that measure or prune units: these have none to look at that are the dense network's."""
    return {name: node for name, node in callbacks.items() if "lstm" not in node}


def teacher_of(config: Mapping[str, Any]) -> Config | None:
    """The config of the dense network that teaches in a control; None where none does.

    Example:
        >>> teacher_of({"seed": 1, "model": {"units": 2}, "teacher": {"model": {"units": 8}}})
        {'seed': 1, 'model': {'units': 8}}
    """
    if TEACHER not in config:
        return None
    return {key: value for key, value in {**config, **config[TEACHER]}.items() if key != TEACHER}


def described(config: Config) -> dict[str, Any]:
    """What results say of a control: which it is, and the order and rate of units that it is held against.

    Example:
        >>> described({"control": None})
        {}
    """
    if config.get("control") is None:
        return {}
    if "unit_mask" not in config["callbacks"]:
        return {"control": {"name": config["control"]}}
    mask = _mask(config)
    return {"control": {"name": config["control"], "order": mask.get("order", "descending"), "rate": mask["rate"]}}


def _mask(config: Config) -> Mapping[str, Any]:
    mask = config["callbacks"].get("unit_mask")
    if mask is None:
        accepted = f"null, or with {MASK}: a control is that of a run which removes units"
        raise ConfigError("control", config["control"], accepted)
    check_rate(f"{MASK}.rate", mask.get("rate"))
    return dict(mask)


def _require_units(mask: Mapping[str, Any]) -> None:
    if mask.get("granularity", "unit") != "unit":
        raise ConfigError(f"{MASK}.granularity", mask["granularity"], "unit, with a control of another size")


def _left(config: Config, mask: Mapping[str, Any]) -> int:
    """How many units a layer keeps."""
    model = config["model"]
    units = check_count("model.units", model.get("units"), least=1)
    several = model.get("layers", 1) > 1 or model.get("directions", 1) > 1
    if several and (mask.get("layers", "last"), mask.get("scope", "all")) != ("every", "within"):
        got = "several layers or directions, of which not each loses as many units"
        accepted = f"one of each, or {MASK}.layers=every {MASK}.scope=within, with a control from scratch"
        raise ConfigError("model.layers", got, accepted)
    _require_units(mask)
    left = units - exact_count(mask["rate"], units)
    if not left:
        raise ConfigError(f"{MASK}.rate", mask["rate"], "a rate that leaves a unit, with a control from scratch")
    return left
