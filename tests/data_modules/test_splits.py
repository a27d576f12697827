from collections import Counter
from pathlib import Path

import pytest

from prunekit.data_modules.clips import Clip, ClipSource
from prunekit.data_modules.splits import make_split
from prunekit.data_modules.ucf101 import Ucf101
from prunekit.errors import ArgumentError


class Listed(ClipSource):
    """Clips by name alone."""

    def __init__(self, clips, parts=None):
        self._clips, self._parts = clips, parts

    def clips(self):
        return self._clips

    def classes(self):
        return sorted({clip.label for clip in self._clips})

    def official(self, number):
        return self._parts if self._parts is not None else super().official(number)


def clip(label, source, number):
    name = f"{label}/{source}_{number}.mp4"
    return Clip(name, Path(name), label, f"{label} {source}")


def clips(classes=3, sources=10, takes=2):
    return [clip(f"c{c}", f"s{s:02}", t) for c in range(classes) for s in range(sources) for t in range(takes)]


def test_classes_that_are_not_on_disk_are_said_and_clips_that_are_not_are_refused(caplog):
    own = clips(classes=2)
    parts = {each.name: "test" if each.source.endswith("s00") else "train" for each in own}
    others = {f"C{c}/{each}.mp4": "train" for c in range(7, 12) for each in "ab"}
    made = make_split(Listed(own, parts | others), "official1", 0, allow_missing=False)
    assert (len(made.train) + len(made.test), made.missing) == (len(own), 10)
    assert "of the classes listed 5 are not on disk and left out: C10, C11, C7, ..." in caplog.text
    with pytest.raises(ArgumentError, match=r"^allow_missing: got 'false, and 1 of the 51 clips listed .*: c1/gone"):
        make_split(Listed(own, parts | others | {"c1/gone.mp4": "test"}), "official1", 0, allow_missing=False)


@pytest.mark.parametrize("split", ["random", "grouped"])
def test_a_drawn_split_is_a_fifth_of_each_class(split):
    made = make_split(Listed(clips()), split, seed=3, allow_missing=False)
    assert not set(made.train) & set(made.test)
    assert sorted([*made.train, *made.test]) == sorted(clips())
    assert Counter(c.label for c in made.test) == {"c0": 4, "c1": 4, "c2": 4}


@pytest.mark.parametrize("split", ["random", "grouped"])
def test_a_drawn_split_is_a_function_of_its_seed(split):
    source = Listed(clips())
    one, again, other = (make_split(source, split, seed, allow_missing=False) for seed in (3, 3, 4))
    assert one == again
    assert set(one.test) != set(other.test)


@pytest.mark.parametrize("seed", range(20))
def test_no_video_is_on_both_sides_of_a_grouped_split(seed):
    # Sources of one to five clips, some of two classes.
    uneven = [clip(f"c{c}", f"s{s}", t) for c in range(2) for s in range(15) for t in range(1 + s % 5)]
    shared = [c._replace(source=c.source.split()[1]) if "s3" in c.source else c for c in uneven]
    made = make_split(Listed(shared), "grouped", seed, allow_missing=False)
    assert made.leaked == 0
    assert not {c.source for c in made.train} & {c.source for c in made.test}
    assert 0.1 < len(made.test) / len(shared) < 0.3


def test_a_random_split_leaks_and_is_counted():
    made = make_split(Listed(clips()), "random", seed=0, allow_missing=False)
    seen = {c.source for c in made.train}
    assert made.leaked == len([c for c in made.test if c.source in seen]) > 0


def test_missing_clips_are_an_error_with_count_and_examples_unless_allowed():
    parts = {c.name: "test" if "s00" in c.name else "train" for c in clips()}
    some = Listed([c for c in clips() if "s09" not in c.name], parts)
    message = r"allow_missing: got 'false, and 6 of the 60 clips listed are not on disk: c0/s09_0.mp4, c0/s09_1.mp4, c1"
    with pytest.raises(ArgumentError, match=message):
        make_split(some, "official1", 0, allow_missing=False)
    made = make_split(some, "official1", 0, allow_missing=True)
    assert (len(made.train), len(made.test), made.missing, made.unused) == (48, 6, 6, 0)


@pytest.mark.parametrize("allowed", [True, False])
def test_the_list_of_another_data_set_is_named_as_such(allowed):
    other = Listed(clips(), {"Surfing/v_Surfing_g01_c01.avi": "train", "Surfing/v_Surfing_g02_c01.avi": "test"})
    message = r"lists_dir: got 'lists of 2 clips, none of them on disk: Surfing/.*; on disk: c0/s00_0.mp4"
    with pytest.raises(ArgumentError, match=message):
        make_split(other, "official1", 0, allow_missing=allowed)


def test_a_class_that_is_only_tested_is_refused():
    parts = {c.name: "test" if c.label == "c1" or "s00" in c.name else "train" for c in clips()}
    with pytest.raises(ArgumentError, match=r"^split: .*leaves no training clip of c1"):
        make_split(Listed(clips(), parts), "official2", 0, allow_missing=False)


@pytest.mark.parametrize("split", ["random", "grouped"])
def test_too_few_clips_are_refused(split):
    few = [clip("c0", f"s{n}", 0) for n in range(3)]
    with pytest.raises(ArgumentError, match=r"^split: .*with 3 clips of 3 videos"):
        make_split(Listed(few), split, 0, allow_missing=False)


def test_a_list_without_test_clips_and_an_unknown_split_are_refused():
    source = Listed(clips(), {c.name: "train" for c in clips()})
    with pytest.raises(ArgumentError, match="leaves no test clip"):
        make_split(source, "official3", 0, allow_missing=False)
    with pytest.raises(ArgumentError, match=r"^split: got 'official4'; accepted: one of 'official1'"):
        make_split(source, "official4", 0, allow_missing=False)


def test_the_real_clips_divide_as_published(real_data):
    source = Ucf101(str(real_data / "ucf101" / "clips"), str(real_data / "ucf101" / "ucfTrainTestlist"))
    made = make_split(source, "official1", 0, allow_missing=True)
    assert (len(made.train), len(made.test), made.missing, made.leaked) == (216, 84, 13020, 0)
    grouped = make_split(source, "grouped", 0, allow_missing=False)
    assert (len(grouped.train), len(grouped.test), grouped.leaked) == (240, 60, 0)
    drawn = make_split(source, "random", 0, allow_missing=False)
    assert (len(drawn.train), len(drawn.test)) == (240, 60)
    assert drawn.leaked > 30
