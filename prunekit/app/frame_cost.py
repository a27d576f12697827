"""What a whole recogniser takes of a frame when it reads a stream: decoding, backbone, recurrent network."""

import copy
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import nn

from prunekit.app.export_steps import seconds_between_frames
from prunekit.data_modules.stream_frames import Counts, stream_frames
from prunekit.exports import plain_network
from prunekit.latency import medians
from prunekit.models.backbone import FrameEncoder
from prunekit.stepping import StepNetwork
from prunekit.units.compaction import compact
from prunekit.units.links import network_links

CLIPS = 8  # training clips that are decoded
TURNS = 15
log = logging.getLogger("prunekit")


def frame_cost(
    module: nn.Module, recurrent: Sequence[tuple[str, str]], data: Any, known: dict[str, Any]
) -> dict[str, Any]:
    """What results say of a recogniser of clips that reads a stream; nothing of other networks.

    Frames come one at a time, as in ``prunekit predict --stream``. Seconds are those of one thread on the CPU that it
    was at work, so that a processor shared with others tells the same: medians, of decoding over clips, of the rest
    over turns in which backbone, dense and compact network follow each other.

    Args:
        module: masked, on any device.
        recurrent: names of a recurrent layer and of what reads it, for each that is pruned; none for a dense network.
        data: the run's data module.
        known: what was measured before in this process, added to: runs that differ in their pruning alone have equal
            decoding and backbone, and so have equal numbers.

    Returns:
        ``frame``: ``threads``; ``every``, the seconds of video from one frame that is looked at to the next; and
        ``seconds`` of one such frame: ``decoding`` of it and of those in between, ``backbone``, and the recurrent
        network with its head, ``dense`` and, if it was pruned, ``compact``.
    """
    network = plain_network(module) if hasattr(data, "sampling") else None
    if network is None:
        return {}
    try:
        network = copy.deepcopy(network).cpu()
        rivals = {"dense": network}
        if recurrent:
            rivals["compact"] = compact(network, network_links(network, recurrent), tell=False).module
        own = getattr(module, "backbone", None)
        if isinstance(own, FrameEncoder):  # trained along
            encoder, how = copy.deepcopy(own).cpu().eval(), "own"
        else:
            encoder, how = data.backbone.build(), str(data.backbone.recipe())
        alike = known.setdefault(f"frame {how} {data.sampling} {data.made_split.train[0].path}", {})
        with _one_thread():
            return {"frame": _measured(rivals, encoder, data, alike)}
    except Exception as error:  # it must not cost what the run has computed
        log.warning("what a frame costs is not known: %s: %s", type(error).__name__, error)
        return {}


@torch.no_grad()
def _measured(
    networks: dict[str, nn.Module], encoder: FrameEncoder, data: Any, alike: dict[str, Any]
) -> dict[str, Any]:
    if not alike:
        alike |= _of_clips(data)
    frame = torch.from_numpy(alike["picture"])[None]
    features = encoder(frame)[None].to(next(networks["dense"].parameters()).dtype)
    rivals: dict[str, Callable[[], object]] = {"backbone": partial(encoder, frame)}
    for name, network in networks.items():
        step = StepNetwork(network)
        rivals[name] = partial(step, features, *(state.zeros(1) for state in step.states))
    seconds = medians(rivals, TURNS, clock=time.thread_time)
    seconds["backbone"] = alike.setdefault("backbone", seconds["backbone"])
    return {"threads": 1, "every": alike["every"], "seconds": {"decoding": alike["decoding"], **seconds}}


def _of_clips(data: Any) -> dict[str, Any]:
    """What training clips say: ``every``, the median ``decoding``, and a ``picture`` of the last of them."""
    between = seconds_between_frames(data)
    if between is None:
        raise ValueError("no training clip says how long it lasts")
    clips, found, picture = data.made_split.train, [], None
    for clip in clips[:: max(1, len(clips) // CLIPS)][:CLIPS]:
        start = time.thread_time()
        frames = stream_frames(str(clip.path), data.sampling.size, Fraction(between), Counts())
        if taken := [each.picture for each in frames]:
            found.append((time.thread_time() - start) / len(taken))
            picture = taken[-1]
    if picture is None:
        raise ValueError("no training clip gives a frame")
    return {"every": between, "decoding": statistics.median(found), "picture": picture}


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
