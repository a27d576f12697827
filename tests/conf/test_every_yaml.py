"""Every YAML under conf/ is composed, bound to its class's signature, and commented. A new file needs no edit here."""

import inspect
import re
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

import conf
from prunekit.app import launcher
from tests.conftest import compose_config

launcher.register()

FOLDER = Path(conf.__file__).parent
FILES = sorted(FOLDER.rglob("*.yaml"))
CLASSES = [path for path in FILES if re.search(r"^_target_:", path.read_text(), re.MULTILINE)]
VARIANTS = [path for path in sorted((FOLDER / "data").glob("*.yaml")) if path not in CLASSES]
EXPERIMENTS = sorted((FOLDER / "experiment").glob("*.yaml"))
# What a run adds to a class's arguments when it builds it.
ADDED = {
    "logger": {"save_dir": ""},
    "model/optimizer": {"params": []},
    "trainer": {"callbacks": [], "logger": False, "plugins": [], "default_root_dir": ""},
}


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def test_the_walk_found_the_files():
    assert len(FILES) > 15
    assert len(CLASSES) > 10
    assert {path.stem for path in EXPERIMENTS} >= {"digits_region", "mnist_region", "mnist_magnitude"}
    assert set(FILES) - set(CLASSES) - set(EXPERIMENTS) <= {
        FOLDER / "train.yaml",
        FOLDER / "hydra" / "default.yaml",
        FOLDER / "paths" / "default.yaml",
        *(FOLDER / "trainer").glob("*.yaml"),
        *(FOLDER / "sweep").glob("*.yaml"),
        *VARIANTS,
    }
    assert {path.stem for path in VARIANTS} == {"ucf101", "hmdb51", "class_folders", "synthetic_actions"}


def bind(node: dict, added: dict) -> list[str]:
    """Bind a node and the nodes inside it to their classes' signatures; return the targets bound."""
    target = node["_target_"]
    arguments = {key: value for key, value in node.items() if not key.startswith("_")}
    inner = {key: value for key, value in arguments.items() if isinstance(value, dict) and "_target_" in value}
    found = [target]
    for key, value in inner.items():
        found += bind(value, ADDED["model/optimizer"] if key == "optimizer" else {})
    inspect.signature(get_object(target)).bind(**arguments, **added)
    return found


# A group within a group wants a file of the outer one that has it.
OUTER = {"data/source": ("data=action_clips",), "data/backbone": ("data=action_clips",)}
OUTER |= {"model/backbone": ("model=recognizer",)}


@pytest.mark.parametrize("path", [*CLASSES, *VARIANTS], ids=name_of)
def test_a_class_file_binds_to_the_signature_of_its_class(path):
    group = path.relative_to(FOLDER).parent.as_posix()
    if group == "callbacks":
        overrides = (f"callbacks=[{path.stem}]", "criterion=random")  # which unit_mask takes from there
        config = compose_config(*overrides, "~experiment", "name=x", "dense_epochs=1")
        node = OmegaConf.to_container(config.callbacks[path.stem], resolve=True)
    else:
        overrides = (*OUTER.get(group, ()), f"{group}={path.stem}")
        config = compose_config(*overrides, "~experiment", "name=x", "dense_epochs=1", with_hydra="hydra" in group)
        node = OmegaConf.to_container(OmegaConf.select(config, group.replace("/", ".")), resolve=True)
    (target, *_) = bind(node, ADDED.get(group, {}))
    assert target in path.read_text() or path in VARIANTS


@pytest.mark.parametrize("path", CLASSES, ids=name_of)
def test_a_class_file_names_its_class_first_and_comments_every_argument(path):
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    if lines[0].startswith("defaults: ["):
        lines = lines[1:]
    elif lines[0] == "defaults:":
        lines = lines[1:]
        while lines[0].startswith(" "):
            lines = lines[1:]
    keys = [line for line in lines if not line.startswith(" ")]
    if any(line.startswith("_target_") for line in keys):
        assert keys[0].startswith("_target_:")
    bare = [line for line in keys if "  #" not in line and " #" not in line and not line.startswith("_")]
    assert bare == []


@pytest.mark.parametrize("path", sorted((FOLDER / "data").glob("*.yaml")), ids=name_of)
def test_data_follows_the_seed_of_the_run(path):
    assert compose_config(f"data={path.stem}", "seed=7").data.seed == 7


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_an_experiment_composes_and_binds(path):
    config = OmegaConf.to_container(compose_config(f"experiment={path.stem}"), resolve=True)
    assert not OmegaConf.missing_keys(OmegaConf.create(config))
    assert config["name"] == path.stem
    bound = []
    for group in ("model", "data", "trainer", "logger"):
        bound += bind(config[group], ADDED.get(group, {}))
    for node in config["callbacks"].values():
        bound += bind(node, {})
    assert len(bound) >= 5 + len(config["callbacks"])


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_an_experiment_says_its_question_command_and_expected_result(path):
    text = path.read_text()
    assert text.startswith("# @package _global_\n# Question: "), "the header is # @package _global_, then # Question:"
    assert "# Expected: " in text
    commands = re.findall(r"prunekit train ?(.*)", text)
    assert commands
    for command in commands:
        overrides = re.sub(r"\s{2,}\(.*", "", command).split()
        assert compose_config(*overrides).name == path.stem


@pytest.mark.parametrize("trainer", sorted(path.stem for path in (FOLDER / "trainer").glob("*.yaml")))
def test_every_trainer_binds(trainer):
    node = OmegaConf.to_container(compose_config(f"trainer={trainer}").trainer, resolve=True)
    assert bind(node, ADDED["trainer"]) == ["pytorch_lightning.Trainer"]


def test_a_wrong_argument_would_not_bind():
    node = {"_target_": "prunekit.callbacks.l2_mask.L2Mask", "parameters": None, "rate": 0.5, "ratio": 0.5}
    with pytest.raises(TypeError, match="ratio"):
        bind(node, {})
    with pytest.raises(TypeError, match="missing a required argument: 'rate'"):
        bind({"_target_": "prunekit.callbacks.l2_mask.L2Mask", "parameters": None}, {})
