"""``prunekit train resume=FOLDER``: a run goes on with its folder's own config, whatever else was typed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from prunekit.app.config import read_config, resolve
from prunekit.app.errors import ConfigError
from prunekit.app.identity import config_hash
from prunekit.app.naming import find_run
from prunekit.app.trust import OF_TRAINING, require_trusted
from prunekit.errors import ArgumentError

KEY, CONFIG = "resume", "config.yaml"
PARTS = ("data", "model", "criterion", "segmentation", "callbacks", "trainer", "logger")
# Keys that may be typed beside it: how to run it, not what it is.
BESIDE = (KEY, "trust", "threads", "paths")


def resumed(cfg: DictConfig, words: Sequence[str] = ()) -> DictConfig:
    """The config to run: the composed one, or with ``resume`` that of the run in its folder.

    Args:
        cfg: composed, unresolved.
        words: as typed, ``key=value``; what contradicts the folder's config is refused.

    Raises:
        ConfigError: if no run lies there, its config was changed since, it names code that is neither ours nor
            trusted, or something was typed that it does not say.
    """
    if cfg.get(KEY) is None:
        return cfg
    folder = find_run(Path(str(cfg[KEY]))).absolute()
    stored = read_config(folder / CONFIG, KEY)
    if stored is None:
        raise ConfigError(KEY, str(folder), f"the folder of a run, with {CONFIG}")
    written = stored.pop("config_hash", None)
    try:
        content, identity = resolve(stored)
    except (ArgumentError, OmegaConfBaseException, LookupError, AttributeError) as error:
        raise ConfigError(KEY, f"{folder / CONFIG}, which is no run's ({error})", "a run as it was left") from error
    if content["ckpt_path"] in (None, "last") and config_hash(identity) != written:
        accepted = "a run as it was left; a setting is changed where it is typed, without resume: that is another run"
        raise ConfigError(KEY, f"{folder}, whose {CONFIG} is not the one that it was run with", accepted)
    for word in words:
        _refuse_another(word, stored, cfg, str(folder))
    how = "If that is your own code, add trust=[{}]"
    for part in PARTS:
        require_trusted(content.get(part), part, str(folder), cfg.get("trust") or (), OF_TRAINING, KEY, how)
    typed = [word for word in words if word.startswith("paths.")]
    own = OmegaConf.merge(stored, {"run_dir": str(folder), "force": False, KEY: None, "trust": None})
    assert isinstance(own, DictConfig)
    for word in typed:
        key = word.partition("=")[0]
        OmegaConf.update(own, key, OmegaConf.select(cfg, key))
    if own.ckpt_path == "last":
        own.ckpt_path = None
    if cfg.get("threads") is not None:
        own.threads = cfg.threads
    return own


def _refuse_another(word: str, stored: DictConfig, cfg: DictConfig, folder: str) -> None:
    """Refuse what was typed and is not what the folder's config says."""
    key = word.lstrip("+~").partition("=")[0].partition("@")[0]
    node = key.replace("/", ".")
    if node.partition(".")[0] in BESIDE:
        return
    of = "name" if node == "experiment" else node
    typed, said = _plain(cfg, of), _plain(stored, of)
    if typed != said:
        accepted = f"{KEY}=FOLDER without it: the run goes on as its {CONFIG} says"
        accepted += f", {of}={said}" if not isinstance(said, dict) else ""
        raise ConfigError(KEY, f"{folder}, together with {word}", f"{accepted}. Without {KEY} it is another run")


def _plain(cfg: DictConfig, key: str) -> Any:
    found = OmegaConf.select(cfg, key)
    return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
