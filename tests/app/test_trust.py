"""A run from a stranger: what its files name is not run, unless the user says that it is his own."""

import pickle
import re
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from prunekit.app.config import resolve
from prunekit.app.errors import ConfigError
from prunekit.app.explain import explain
from prunekit.app.explain import main as explain_main
from prunekit.app.export import export
from prunekit.app.export import main as export_main
from prunekit.app.identity import config_hash
from prunekit.app.life import Run
from prunekit.app.rebuild import rebuild
from prunekit.app.resume import PARTS
from prunekit.app.trust import OF_TRAINING, _is_own, _targets, require_trusted
from tests.conftest import SHORT, compose_config


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def gadgets(folder, mark):
    """Nodes that would leave the mark, most of them through libraries that are there anyway."""
    (folder / "bomb.pkl").write_bytes(pickle.dumps(Bomb(mark)))
    torch.save(Bomb(mark), folder / "bomb.pt")
    np.save(folder / "bomb.npy", np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    (folder / "evil_module.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\nNet = dict\n")
    code = f"__import__('pathlib').Path({str(mark)!r}).touch()"
    script, pt, pkl, npy = (str(folder / name) for name in ("evil_module.py", "bomb.pt", "bomb.pkl", "bomb.npy"))
    calls = {
        "builtins.eval": [code],
        "builtins.exec": [code],
        "os.system": [f"touch {mark}"],
        "subprocess.run": [["touch", str(mark)]],
        "subprocess.check_output": [["touch", str(mark)]],
        "pathlib.Path.touch": [{"_target_": "pathlib.Path", "_args_": [str(mark)]}],
        "torch.load": {"f": pt, "weights_only": False},
        "joblib.load": [pkl],
        "numpy.load": [npy, None, True],
        "sympy.sympify": [code],
        "timeit.timeit": [code],
        "runpy.run_path": [script],
        "importlib.import_module": ["evil_module"],
        "evil_module.Net": [],
        "hydra.utils.instantiate": [{"_target_": "builtins.eval", "_args_": [code]}],
        "hydra.utils.call": [{"_target_": "builtins.eval", "_args_": [code]}],
        "prunekit.models.backbone.torch.load": {"f": pt, "weights_only": False},
        "prunekit.models.backbone.Path.touch": [{"_target_": "pathlib.Path", "_args_": [str(mark)]}],
        "prunekit.data_modules.features.os.system": [f"touch {mark}"],
        "prunekit.files.write_whole": [
            {"_target_": "pathlib.Path", "_args_": [str(mark)]},
            {"_target_": "builtins.id"},
        ],
        "torch.optim.sgd.torch.load": {"f": pt, "weights_only": False},
        "torch.optim.lr_scheduler.types.FunctionType": [],
    }
    return {
        name: {"_target_": name, **(values if isinstance(values, dict) else {"_args_": values} if values else {})}
        for name, values in calls.items()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    home = tmp_path_factory.mktemp("finished")
    paths = [f"paths.runs_dir={home}", f"paths.cache_dir={home / 'cache'}", "trainer.accelerator=cpu"]
    quiet = ["trainer.enable_progress_bar=false", "~callbacks.heatmaps"]
    run = Run(compose_config(*SHORT, *paths, *quiet))
    run.go()
    return run.folder


def planted(finished, folder, place, node):
    """The run, with a node in its config at ``place`` and the hash that belongs to such a config."""
    shutil.copytree(finished, folder)
    stored = OmegaConf.load(folder / "config.yaml")
    OmegaConf.update(stored, place, node, merge=False, force_add=True)
    del stored["config_hash"]
    stored["config_hash"] = config_hash(resolve(OmegaConf.create(OmegaConf.to_container(stored)))[1])
    OmegaConf.save(stored, folder / "config.yaml")
    return folder


@pytest.mark.parametrize("place", ["data", "model.extra.deep"])
def test_nothing_that_a_strangers_run_names_is_run(place, finished, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    mark = tmp_path / "mark"
    for number, (name, node) in enumerate(gadgets(tmp_path, mark).items()):
        run = planted(finished, tmp_path / f"run{number}", place, [node] if "deep" in place else node)
        with pytest.raises(ConfigError, match=rf"whose config builds '{re.escape(name)}' \({place}.*add --trust"):
            rebuild(run)
        assert not mark.exists(), name
        assert "evil_module" not in sys.modules


@pytest.mark.parametrize("place", ["data.extra", "model", "model.optimizer"])
@pytest.mark.parametrize("command", [export, explain])
def test_no_command_runs_it(command, place, finished, tmp_path):
    mark = tmp_path / "mark"
    run = planted(finished, tmp_path / "run", place, {"_target_": "os.system", "_args_": [f"touch {mark}"]})
    with pytest.raises(ConfigError, match=r"whose config builds 'os\.system'"):
        command(run, run / "out")
    assert not mark.exists()


def test_what_would_run_does_so_where_it_is_trusted(finished, tmp_path, monkeypatch, capsys):
    """So the gadgets above are none that could not have worked; and a user can say that code is his own."""
    monkeypatch.syspath_prepend(tmp_path)
    worked = set()
    for number, (name, node) in enumerate(gadgets(tmp_path, tmp_path / "mark").items()):
        run = planted(finished, tmp_path / f"run{number}", "data", node)
        with suppress(Exception):  # most give no data in the end
            rebuild(run, [name.partition(".")[0], "pathlib", "builtins"])
        worked |= {name} if (tmp_path / "mark").exists() else set()
        (tmp_path / "mark").unlink(missing_ok=True)
        sys.modules.pop("evil_module", None)
    assert {"evil_module.Net", "torch.load", "joblib.load", "pathlib.Path.touch", "numpy.load"} <= worked
    assert len(worked) >= 9, worked  # Hydra itself refuses some of the others
    for main in (export_main, explain_main):
        with pytest.raises(SystemExit, match="2"):
            main([str(planted(finished, tmp_path / main.__module__, "data", {"_target_": "evil_module.Net"}))])
        assert "add --trust evil_module" in capsys.readouterr().err
        with pytest.raises((SystemExit, AttributeError)):
            main([str(tmp_path / main.__module__), "--trust", "evil_module"])
        assert (tmp_path / "mark").exists()
        (tmp_path / "mark").unlink()
        del sys.modules["evil_module"]


def test_a_segmentation_of_a_strangers_run_is_not_run_either(finished, tmp_path):
    mark = tmp_path / "mark"
    node = {"_target_": "os.system", "_args_": [f"touch {mark}"]}
    run = planted(finished, tmp_path / "run", "callbacks.region_mean_mask.segmentation", node)
    with pytest.raises(ConfigError, match=r"whose config builds 'os\.system'"):
        explain(run, tmp_path / "out")
    assert not mark.exists()


@pytest.mark.parametrize(
    "name", [None, 3, ["os", "system"], "", ".", "prunekit.models..mlp.Mlp", "prunekit.models.mlp."]
)
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ConfigError, match="whose config builds"):
        require_trusted({"a": [{"_target_": name}]}, "data", "run")


def test_ones_own_is_trusted_by_whole_parts_of_its_name():
    node = {"_target_": "mine.nets.Net", "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True}}
    for trusted in ("mine", "mine.nets", "mine.nets.Net"):
        require_trusted(node, "model", "run", [trusted])
    for other in ("min", "mine.nets.Ne", "mine.other", ""):
        with pytest.raises(ConfigError, match=r"'mine\.nets\.Net'"):
            require_trusted(node, "model", "run", [other])


def test_all_that_our_own_configs_name_is_trusted():
    for experiment in ("mnist_region", "ucf101_te", "hmdb51_te", "synthetic_te", "digits_region"):
        config, _ = resolve(compose_config(f"experiment={experiment}", "paths.data_dir=/nowhere"))
        for part in ("data", "model"):
            names = {name for _, name in _targets(config[part], part)}
            assert config[part]["_target_"] in names
            assert all(_is_own(name) for name in names), names
        for part in PARTS:
            require_trusted(config.get(part), part, "run", own=OF_TRAINING)
