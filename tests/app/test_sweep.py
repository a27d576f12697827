"""Which jobs a sweep is said to have before it starts: those that Hydra makes."""

from omegaconf import OmegaConf

from prunekit.app.sweep import planned


def test_a_value_of_the_command_line_takes_the_place_of_the_sweeps_own():
    sweeper = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    sweeper["params"] = {"seed": "0,1,2", "data.split": "a,b"}
    overrides = {"task": ["experiment=x", "seed=5,6"]}
    config = OmegaConf.create({"hydra": {"sweeper": sweeper, "overrides": overrides}})
    assert planned(config) == [
        [f"seed={seed}", f"data.split={split}", "experiment=x"] for seed in (5, 6) for split in "ab"
    ]
