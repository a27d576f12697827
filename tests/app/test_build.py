"""From a node to an object: which key a message names, and what a class may take."""

import copy
import functools
import gc
import weakref

import pytest
import torch
from omegaconf import OmegaConf

from prunekit.app.build import build_callbacks, build_loggers
from prunekit.app.builder import Builder
from prunekit.app.config import references, resolve
from prunekit.app.errors import ConfigError
from prunekit.callbacks.checkpoints import Checkpoints
from prunekit.errors import ArgumentError, check_rate
from tests.conftest import compose_config

HERE = "tests.app.test_build"


class Part:
    """A class with an argument that it checks at once, and one that it checks when it is used."""

    def __init__(self, rate=0.5, late=0.5, inner=None, parts=None, plain=None):
        self.rate = check_rate("rate", rate)
        self.late, self.inner, self.parts, self.plain = late, inner, parts, plain
        if inner == "strict":
            raise ArgumentError("inner", inner, "another", self)

    def use(self):
        if self.late > 1:
            raise ArgumentError("late", self.late, "less", self)


class Outer(Part):
    """One that calls what it is given."""

    def __init__(self, inner):
        super().__init__(inner=inner)
        inner.use()


def part(**values):
    return {"_target_": f"{HERE}.Part", **values}


def build(node, key="callbacks.mine", overrides=(), **injected):
    return Builder(references(compose_config(*overrides))).build(node, key, **injected)


@pytest.mark.parametrize(
    ("node", "key"),
    [
        (part(rate=2), "callbacks.mine.rate"),
        (part(inner=part(rate=2)), "callbacks.mine.inner.rate"),
        (part(parts={"a": part(), "b": part(rate=2)}), "callbacks.mine.parts.b.rate"),
        (part(parts=[part(), part(inner=part(rate=2))]), r"callbacks.mine.parts\[1\].inner.rate"),
        (part(inner="strict"), "callbacks.mine.inner"),
        ({"_target_": f"{HERE}.Outer", "inner": part(late=2)}, "callbacks.mine.inner.late"),
    ],
)
def test_an_error_in_construction_has_the_key_of_the_node_that_it_is_in(node, key):
    with pytest.raises(ConfigError, match=f"^{key}: got"):
        build(node)


def test_an_error_raised_later_has_the_key_of_its_object_or_the_bare_argument():
    builder = Builder()
    outer = builder.build(part(late=3, inner=part(late=2), parts={"a": [part(late=4)]}), "callbacks.mine")
    for one, key in ((outer, ""), (outer.inner, ".inner"), (outer.parts["a"][0], ".parts.a[0]")):
        with pytest.raises(ConfigError) as caught, builder.naming():
            one.use()
        assert caught.value.argument == f"callbacks.mine{key}.late"
        assert str(caught.value) == f"callbacks.mine{key}.late: got {one.late}; accepted: less"
        assert builder.named(caught.value).argument == caught.value.argument
    with pytest.raises(ConfigError, match=r"^late: got 2"), builder.naming():
        Part(late=2).use()
    assert str(builder.named(ArgumentError("", 1, "2", outer))) == "callbacks.mine: got 1; accepted: 2"


def test_a_partial_has_its_key_when_it_is_called_copied_or_not():
    later = build(part(rate=2, _partial_=True), "model.optimizer")
    assert isinstance(later, functools.partial)
    assert later.keywords == {"rate": 2}
    for one in (later, copy.deepcopy(later)):
        with pytest.raises(ConfigError, match=r"^model\.optimizer\.rate: got 2"):
            one()
    assert later(rate=1).rate == 1


def test_an_interpolated_value_has_the_key_that_one_sets():
    overrides = ("experiment=synthetic_te", "criterion=entropy")
    node = {"_target_": "prunekit.data_modules.mnist.Mnist", "data_dir": "nowhere", "cache_dir": "/dev/null/x"}
    node |= {"batch_size": 1, "validation": 0.0, "seed": 0, "download": False}
    builder = Builder(references(compose_config("experiment=mnist_region")))
    data = builder.build(node, "data")
    with pytest.raises(ConfigError, match=r"^paths\.cache_dir: got"), builder.naming():
        data.load()
    with pytest.raises(ConfigError, match=r"^seed: got -1"):
        builder.build({**node, "seed": -1}, "data")
    with pytest.raises(ConfigError, match=r"^criterion\.rate: got 2"):
        build(part(rate=2), "callbacks.unit_mask.criterion", overrides)


def test_references_are_values_that_are_nothing_else():
    found = references(compose_config("experiment=mnist_region", "segmentation=signed"))
    assert found["callbacks.l2_mask.start_epoch"] == "dense_epochs"
    assert found["data.cache_dir"] == "paths.cache_dir"
    assert found["callbacks.region_mean_mask.segmentation"] == "segmentation"
    assert not [key for key in found if key.startswith("paths.")]


def test_a_builder_keeps_what_it_built_and_nothing_outlives_it():
    builder = Builder()
    gone = weakref.ref(builder.build(part(), "callbacks.mine"))
    gc.collect()
    assert gone() is not None  # else its id might be another's
    del builder
    gc.collect()
    assert gone() is None


def test_values_stay_plain_and_nodes_inside_are_left_alone_where_hydra_would():
    node = part(plain={"a": [1, {"b": None}]}, inner=part(), _recursive_=False)
    made = build(node)
    assert made.plain == {"a": [1, {"b": None}]}
    assert type(made.plain) is dict
    assert made.inner == part()
    assert build({"_target_": f"{HERE}.Part", "_args_": [0.25]}).rate == 0.25


def test_what_a_class_refuses_otherwise_names_the_node():
    with pytest.raises(
        ConfigError, match=r"^model: got \{'in_features': 0\}; accepted: arguments that torch.nn.Linear"
    ):
        Builder().build({"_target_": "torch.nn.Linear", "in_features": 0}, "model")
    with pytest.raises(ConfigError, match=r"^model\._target_: got 'os\.system'"):
        Builder().build({"_target_": "os.system", "command": "true"}, "model")


class Anything:
    """A class as W&B's logger is: it takes anything, and a type is known to type checkers alone."""

    def __init__(self, prefix: "OnlyForTypeCheckers | None" = None, **others: int):  # noqa: F821
        self.prefix, self.others = prefix, others


def test_a_class_that_takes_anything_is_given_anything():
    made = build({"_target_": f"{HERE}.Anything", "project": "mine", "prefix": "a"})
    assert (made.prefix, made.others) == ("a", {"project": "mine"})


class Named:
    """A callback that asks for its node's name."""

    def __init__(self, name=None, **others):
        self.name, self.others = name, others


def test_callbacks_are_given_their_nodes_name_and_the_stamp_where_they_ask_for_them():
    nodes = {
        "mine": {"_target_": f"{HERE}.Named"},
        "other": {"_target_": f"{HERE}.Named", "name": "own"},
        "null": {"_target_": f"{HERE}.Named", "name": None},
        "saved": {"_target_": "prunekit.callbacks.checkpoints.Checkpoints"},
    }
    stamp = {"config": {"model": {"_target_": "os.system"}}}
    *named, saved = build_callbacks({"callbacks": nodes, "trainer": {}}, stamp).values()
    assert [each.name for each in named] == ["mine", "own", "null"]
    assert all(each.others == {} for each in named)
    assert isinstance(saved, Checkpoints)
    assert saved.stamp is stamp  # what is added later is stored too


def test_there_may_be_several_loggers_and_one_that_writes_no_files(tmp_path):
    csv = {"_target_": "pytorch_lightning.loggers.CSVLogger"}
    other = {"_target_": f"{HERE}.Anything", "project": "mine"}
    for nodes in ({"a": csv, "b": other}, [csv, other]):
        first, second = build_loggers(nodes, tmp_path)
        assert first.save_dir == str(tmp_path)
        assert second.others == {"project": "mine"}
    (own,) = build_loggers({**csv, "save_dir": "own"}, tmp_path)
    assert own.save_dir == "own"
    assert build_loggers(None, tmp_path) == []
    for nodes, key in (({"a": {**csv, "nam": 1}}, r"logger\.a\.nam"), ([{**csv, "nam": 1}], r"logger\[0\]\.nam")):
        with pytest.raises(ConfigError, match=f"^{key}: got 1"):
            build_loggers(nodes, tmp_path)


def test_a_config_may_have_several_loggers_or_none():
    csv = "_target_=pytorch_lightning.loggers.CSVLogger"
    several = compose_config("~logger", f"+logger.a.{csv}", f"+logger.b.{csv}")
    config, _ = resolve(several)
    assert set(config["logger"]) == {"a", "b"}
    OmegaConf.set_struct(several, False)
    several.logger = [several.logger.a]
    assert len(resolve(several)[0]["logger"]) == 1
    assert "logger" not in resolve(compose_config("~logger"))[0]
    several.logger = 3
    with pytest.raises(ConfigError, match=r"^logger: got 3"):
        resolve(several)


def test_a_callback_of_any_name_is_named_as_the_user_does():
    target = "prunekit.callbacks.sample_frames.SampleFrames"
    config, _ = resolve(compose_config(f"+callbacks.my_first={{_target_:{target},columns:0}}"))
    with pytest.raises(ConfigError, match=r"^callbacks\.my_first\.columns: got 0"):
        build_callbacks({**config, "callbacks": {"my_first": config["callbacks"]["my_first"]}}, {})


MASK = "{_target_:prunekit.callbacks.l2_mask.L2Mask,parameters:null,rate:2,rounds:1,retrain_epochs:0,start_epoch:9}"


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ((f"+callbacks.my_first_mask={MASK}",), "callbacks.my_first_mask.rate"),
        (("experiment=ucf101_curve", "callbacks.unit_curve.criteria.entropy.bins=0"),
         "callbacks.unit_curve.criteria.entropy.bins"),
        (("experiment=synthetic_te", "criterion=entropy", "criterion.bins=0"), "criterion.bins"),
        (("experiment=mnist_region", "segmentation=watershed", "segmentation.sigma=-1"), "segmentation.sigma"),
    ],
)  # fmt: skip
def test_prunekits_own_parts_are_named_by_the_key_that_one_sets(overrides, key):
    cfg = compose_config(*overrides)
    config, _ = resolve(cfg)
    with pytest.raises(ConfigError) as caught:
        build_callbacks(config, {}, Builder(references(cfg)))
    assert caught.value.argument == key


def test_an_optimizer_is_a_partial_that_makes_one():
    node = {"_target_": "torch.optim.SGD", "lr": 0.5, "_partial_": True}
    (group,) = build(node, "model.optimizer")(torch.nn.Linear(2, 1).parameters()).param_groups
    assert group["lr"] == 0.5
