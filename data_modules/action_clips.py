"""Clips of actions as samples: features computed once and kept, or frames decoded whenever they are asked for."""

import logging
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from prunekit import gpu
from prunekit.cache import Cache
from prunekit.data_modules.clip_frames import ClipFrames
from prunekit.data_modules.clips import Clip, ClipSource
from prunekit.data_modules.features import ClipHashes, Sampling, extract, feature_cache, read_clip
from prunekit.data_modules.in_memory import Arrays, InMemoryDataModule
from prunekit.data_modules.shards import parse_shard
from prunekit.data_modules.splits import SPLITS, Split, make_split
from prunekit.digests import digest
from prunekit.errors import ArgumentError, check_choice, check_count, owned_by
from prunekit.models.backbone import FEATURES, FrozenBackbone
from prunekit.precision import ieee
from prunekit.threads import all_threads

log = logging.getLogger("prunekit")
SHOWN = 10


class ActionClips(InMemoryDataModule):
    """Video clips and their classes, each clip as ``(frames, 512)`` float32 features of a frozen backbone.

    Features are computed when they are first needed, by whatever device there is, and kept in ``cache_dir`` under
    the hash of the clip's content, the sampling of frames and the weights. With ``serve=frames`` a sample is
    ``(frames, height, width, 3)`` uint8 instead, decoded when its batch comes: for training end to end.

    Classes are numbered in the data set's own order, those without a clip left out.

    Args:
        source: the data set.
        backbone: how features are computed.
        cache_dir: a writable folder.
        split: ``official1`` to ``official3``, ``random`` or ``grouped``; see :func:`data_modules.splits.make_split`.
        split_seed: of the drawing of ``random`` and ``grouped``.
        batch_size: clips of a training batch over all devices together.
        validation: share of the training clips held out, in [0, 1).
        seed: of the shuffling of each epoch.
        eval_batch_size: clips of an evaluation batch.
        frames: frames of a clip.
        frame_size: their height and width, in pixels.
        serve: ``features`` or ``frames``.
        allow_missing: whether published lists may name clips that are not on disk.
        on_bad_clip: whether clips that cannot be decoded ``fail`` the run or are left out and reported (``skip``).
        shard: ``i/n`` for the i-th of n jobs, from 0, that compute features into one cache; None for all clips.
        device: where features are computed: ``auto``, ``cpu`` or ``cuda``.
        decoders: threads that decode; None for one a core.

    Raises:
        ArgumentError: if a value is not accepted; and from :meth:`load`, if clips are missing or bad.
    """

    def __init__(
        self,
        source: ClipSource,
        backbone: FrozenBackbone,
        cache_dir: str,
        split: str,
        split_seed: int,
        batch_size: int,
        validation: float,
        seed: int,
        eval_batch_size: int = 256,
        frames: int = 25,
        frame_size: Sequence[int] = (240, 320),
        serve: Literal["features", "frames"] = "features",
        allow_missing: bool = False,
        on_bad_clip: Literal["fail", "skip"] = "fail",
        shard: str | None = None,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        decoders: int | None = None,
    ) -> None:
        super().__init__(batch_size, validation, seed, eval_batch_size)
        check_choice("split", split, SPLITS)
        check_choice("serve", serve, ("features", "frames"))
        check_choice("on_bad_clip", on_bad_clip, ("fail", "skip"))
        check_choice("device", device, ("auto", "cpu", "cuda"))
        if len(frame_size) != 2:
            raise ArgumentError("frame_size", list(frame_size), "a height and a width")
        height, width = (check_count("frame_size", side, least=32) for side in frame_size)
        if not (backbone.trained or source.synthetic):
            accepted = "trained weights (imagenet or a file); untrained ones are for synthetic_actions alone"
            raise ArgumentError("backbone.weights", backbone.weights, accepted)
        if device == "cuda" and not gpu.available():
            raise ArgumentError("device", device, "auto or cpu: there is no GPU")
        self.source, self.backbone, self.cache_dir = source, backbone, Path(cache_dir)
        self.split, self.split_seed = split, check_count("split_seed", split_seed)
        self.sampling = Sampling(check_count("frames", frames, least=1), (height, width))
        self.serve, self.allow_missing, self.on_bad_clip = serve, allow_missing, on_bad_clip
        self.shard = parse_shard(shard)
        self.device = torch.device(gpu.KIND if device != "cpu" and gpu.available() else "cpu")
        self.decoders = check_count("decoders", decoders, least=1) if decoders is not None else os.cpu_count() or 1
        self.bad: dict[str, str] = {}
        self._hashes: ClipHashes
        self._made: Split | None = None
        self._classes: list[str] = []

    @property
    def made_split(self) -> Split:
        """The clips trained on and tested with, bad ones left out once they are known."""
        if self._made is None:
            with owned_by(self):
                self._made = make_split(self.source, self.split, self.split_seed, self.allow_missing)
            present = {clip.label for clip in (*self._made.train, *self._made.test)}
            with owned_by(self.source):
                self._classes = [label for label in self.source.classes() if label in present]
        return self._made

    @property
    def classes(self) -> list[str]:
        """The classes that have clips, readable or not; a sample's class is its place here."""
        return self._classes if self.made_split else []

    def model_arguments(self) -> dict[str, Any]:
        """What a model has to be given to fit the data."""
        return {"inputs": FEATURES, "classes": len(self.classes), "outputs": len(self.classes)}

    def report(self) -> dict[str, Any]:
        """What results say of the data: the split and its leak, and what was left out."""
        split = self.made_split
        return {
            "split": self.split,
            "train_clips": len(split.train),
            "test_clips": len(split.test),
            "test_clips_of_videos_trained_on": split.leaked,
            "classes": self.classes,
            "missing_clips": split.missing,
            "unused_clips": split.unused,
            "bad_clips": self.bad,
            "backbone": self.backbone.describe() if self.serve == "features" else None,
        }

    def sample_frames(self, classes: int, count: int) -> list[tuple[str, NDArray[np.uint8]]]:
        """Frames ``(count, height, width, 3)`` of the first training clip of the first classes, with its label."""
        first = {clip.label: clip.path for clip in reversed(self.made_split.train)}
        sampling = Sampling(count, self.sampling.size)
        chosen = [label for label in self.classes if label in first][:classes]
        return [(label, frames) for label in chosen if (frames := read_clip(first[label], sampling).frames) is not None]

    def extract(self) -> int:
        """Compute the features that are not there yet, of this job's shard if it has one; return its number of clips.

        Raises:
            ArgumentError: if a clip cannot be read and ``on_bad_clip`` is ``fail``; all others are finished then.
        """
        clips = [*self.made_split.train, *self.made_split.test]
        number, shards = self.shard
        clips = sorted(clips, key=lambda clip: clip.name)[number::shards]
        cache = self._cache
        try:
            lock = self.cache_dir / "features" / f".{digest(self._recipe)}-{number}of{shards}.lock"
            lock.parent.mkdir(parents=True, exist_ok=True)
            # Two jobs with the same clips take turns, so that the second finds the first's features.
            with FileLock(lock):
                self._hashes = hashes = ClipHashes(self.cache_dir)
                bad = extract([clip.path for clip in clips], self.sampling, self._encoder, cache, hashes, self.decoders)
        except OSError as error:
            got = f"{self.cache_dir} ({error})"
            raise ArgumentError("cache_dir", got, "a folder that can be written", self) from error
        self._leave_out({clip.name: bad[clip.path] for clip in clips if clip.path in bad})
        return len(clips)

    def load(self) -> Arrays:
        """The samples, with their features or to be decoded; every clip has been decoded once before."""
        if self.shard != (0, 1):
            accepted = "null; a shard's features are computed by prunekit extract and the same arguments"
            raise ArgumentError("shard", "{}/{}".format(*self.shard), accepted, self)
        self.extract()
        split, number = self.made_split, {label: i for i, label in enumerate(self.classes)}
        serve = self._frames if self.serve == "frames" else self._features
        train_x, test_x = serve(split.train), serve(split.test)
        train_y, test_y = (torch.tensor([number[clip.label] for clip in clips]) for clips in (split.train, split.test))
        return Arrays(train_x, train_y, test_x, test_y)

    def _features(self, clips: Sequence[Clip]) -> Tensor:
        found = self._read(clips)
        if any(features is None for features in found):  # a damaged file was deleted: compute it again
            self.extract()
            found = self._read(clips)
        whole = [features for features in found if features is not None]
        if len(whole) < len(clips):
            changing = next(clip.path for clip, features in zip(clips, found, strict=True) if features is None)
            raise ArgumentError("source", f"{changing}, which keeps changing", "clips that lie still", self)
        return torch.stack(whole)

    def _read(self, clips: Sequence[Clip]) -> list[Tensor | None]:
        shas = (self._hashes.get(clip.path) for clip in clips)
        found = (None if sha is None else self._cache.load({"clip": sha}) for sha in shas)
        return [None if content is None else content["features"] for content in found]

    def _frames(self, clips: Sequence[Clip]) -> ClipFrames:
        files = [(clip.path, self._hashes.get(clip.path) or "") for clip in clips]
        return ClipFrames(files, self.sampling, self.decoders, owner=self)

    @cached_property
    def _recipe(self) -> dict[str, Any]:
        sampling = {"frames": self.sampling.frames, "size": list(self.sampling.size), "taken": "middles of equal parts"}
        network = self.backbone.recipe() if self.serve == "features" else {"network": None}
        # On a GPU sums have another order, so that the last bits are others.
        on = {"device": self.device.type} if self.device.type != "cpu" and self.serve == "features" else {}
        return {**sampling, **network, **on}

    @property
    def _cache(self) -> Cache:
        return feature_cache(self.cache_dir, self._recipe)

    def _encoder(self) -> Callable[[Tensor], Tensor]:
        if self.serve == "frames":  # what is kept of a clip is that it can be decoded
            return lambda frames: torch.zeros(0)
        slow = self.device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        if slow and self.backbone.precision == "bf16":
            log.warning("this processor has no bf16, so that features take some twenty times as long as in fp32")
        encoder = self.backbone.build().to(self.device)

        @torch.no_grad()
        def encode(frames: Tensor) -> Tensor:
            with ieee(), all_threads():
                features: Tensor = encoder(frames.to(self.device)).cpu()
            return features

        return encode

    def _leave_out(self, bad: dict[str, str]) -> None:
        """Take bad clips out of the split, or refuse it."""
        if not bad:
            return
        if self.on_bad_clip == "fail":
            shown = [f"{name}: {reason}" for name, reason in list(bad.items())[:SHOWN]]
            got = f"fail, and {len(bad)} clips cannot be read: {'; '.join(shown)}" + "; ..." * (len(bad) > SHOWN)
            raise ArgumentError("on_bad_clip", got, "clips that can all be read, or skip to leave these out", self)
        self.bad |= bad
        train, test = (
            [c for c in clips if c.name not in bad] for clips in (self.made_split.train, self.made_split.test)
        )
        if not train or not test:
            got = f"clips of which {len(bad)} cannot be read"
            raise ArgumentError("source", got, "some that can, in each part", self)
        self._made = Split(train, test, self.made_split.missing, self.made_split.unused)
