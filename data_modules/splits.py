"""Which clips are trained on and which test: by published lists, at random, or with no source video on both sides."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from prunekit.data_modules.clips import TEST, TRAIN, Clip, ClipSource, leaked
from prunekit.errors import ArgumentError, check_choice, owned_by

OFFICIAL = {"official1": 1, "official2": 2, "official3": 3, "listed": 1}
SPLITS = (*OFFICIAL, "random", "grouped")
FIFTHS = 5  # one of which tests: 80/20
EXAMPLES = 3
log = logging.getLogger("prunekit")


@dataclass(frozen=True)
class Split:
    """Clips to train on and clips to test with.

    Attributes:
        train: training clips.
        test: test clips.
        missing: how many clips a list names that are not on disk.
        unused: how many clips on disk are in neither part.
    """

    train: list[Clip]
    test: list[Clip]
    missing: int = 0
    unused: int = 0

    @property
    def leaked(self) -> int:
        """How many test clips come from a video that training has seen."""
        return leaked(self.train, self.test)


def make_split(source: ClipSource, split: str, seed: int, allow_missing: bool) -> Split:
    """Divide a source's clips.

    Args:
        source: whose clips.
        split: ``official1`` to ``official3``: by the published lists; ``listed``: by one's own. ``random``: a fifth of
            each class tests, as drawn. ``grouped``: about a fifth of each class tests, and no source video is on both
            sides.
        seed: of the drawing.
        allow_missing: whether a list may name clips that are not on disk; of classes that are not there it may.

    Raises:
        ArgumentError: if the split is none of these, clips are missing, or a class has nothing to train on.
    """
    check_choice("split", split, SPLITS)
    with owned_by(source):
        clips = source.clips()
    if split in OFFICIAL:
        with owned_by(source):
            parts = source.official(OFFICIAL[split])
        if not parts:
            raise ArgumentError("split", split, f"random or grouped: {type(source).__name__} has no such list")
        made = by_list(clips, parts, allow_missing)
    else:
        train, test = drawn(clips, seed, grouped=split == "grouped")
        made = Split(train, test)
    if not made.test:
        raise ArgumentError("split", f"{split}, which leaves no test clip", "a split with test clips on disk")
    untaught = {clip.label for clip in made.test} - {clip.label for clip in made.train}
    if untaught:
        got = f"{split}, which leaves no training clip of {', '.join(sorted(untaught))}"
        raise ArgumentError("split", got, "a split of clips of which each class is trained on")
    return made


def by_list(clips: Sequence[Clip], parts: Mapping[str, str], allow_missing: bool) -> Split:
    """Divide clips as a published list says; names are compared without regard to case."""
    on_disk = {clip.name.casefold(): clip for clip in clips}
    missing = [name for name in parts if name.casefold() not in on_disk]
    examples = ", ".join(missing[:EXAMPLES])
    if len(missing) == len(parts):
        got = f"lists of {len(parts)} clips, none of them on disk: {examples}; on disk: {clips[0].name}, ..."
        raise ArgumentError("source.lists_dir", got, "the lists of the clips in clips_dir")
    there = {name.partition("/")[0] for name in on_disk}
    lacking = [name for name in missing if name.partition("/")[0].casefold() in there]
    absent = {name.partition("/")[0] for name in missing} - {name.partition("/")[0] for name in lacking}
    if absent:  # a part of a data set, by classes
        few = ", ".join(sorted(absent)[:EXAMPLES])
        log.warning("of the classes listed %d are not on disk and left out: %s%s", len(absent), few,
                    ", ..." if len(absent) > EXAMPLES else "")  # fmt: skip
    if lacking and not allow_missing:
        examples = ", ".join(lacking[:EXAMPLES])
        got = f"false, and {len(lacking)} of the {len(parts)} clips listed are not on disk: {examples}, ..."
        raise ArgumentError("allow_missing", got, "true, or all clips in the source's clips_dir")
    found: dict[str, list[Clip]] = {TRAIN: [], TEST: []}
    for name, part in parts.items():
        clip = on_disk.pop(name.casefold(), None)
        if clip is not None:
            found[part].append(clip)
    return Split(found[TRAIN], found[TEST], len(missing), len(on_disk))


def drawn(clips: Sequence[Clip], seed: int, grouped: bool) -> tuple[list[Clip], list[Clip]]:
    """Draw a fifth of each class to test with.

    Args:
        clips: of any order; it bears on what is drawn.
        seed: of the drawing.
        grouped: whether clips of one source stay together; then it is about a fifth.

    Raises:
        ArgumentError: if there are fewer than five clips, or sources.
    """
    labels = np.array([clip.label for clip in clips])
    sources = np.array([clip.source for clip in clips])
    folds = (StratifiedGroupKFold if grouped else StratifiedKFold)(FIFTHS, shuffle=True, random_state=seed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of classes with fewer than five clips; they are divided too
            train, test = next(iter(folds.split(labels, labels, sources)))
    except ValueError as error:
        got = f"{'grouped' if grouped else 'random'} with {len(clips)} clips of {len(set(sources))} videos ({error})"
        raise ArgumentError("split", got, f"at least {FIFTHS} clips, and videos, of some class") from error
    return [clips[i] for i in train], [clips[i] for i in test]
