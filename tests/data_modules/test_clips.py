import pytest

from prunekit.data_modules.clips import TEST, TRAIN, ClassFolders
from prunekit.data_modules.hmdb51 import Hmdb51
from prunekit.data_modules.splits import make_split
from prunekit.data_modules.ucf101 import Ucf101
from prunekit.errors import ArgumentError


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


@pytest.fixture
def ucf(tmp_path):
    clips = touch(
        tmp_path / "clips",
        "Surfing/v_Surfing_g01_c01.avi", "Surfing/v_Surfing_g02_c01.avi", "Surfing/notes.txt",
        "HandstandPushups/v_HandStandPushups_g01_c01.avi", "HandstandPushups/v_HandStandPushups_g02_c01.avi",
    )  # fmt: skip
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "classInd.txt").write_bytes(b"1 Surfing\r\n2 HandstandPushups\r\n3 Archery\r\n")
    (lists / "trainlist01.txt").write_bytes(
        b"Surfing/v_Surfing_g02_c01.avi 1\r\nHandstandPushups/v_HandstandPushups_g02_c01.avi 2\r\n"
    )
    (lists / "testlist01.txt").write_bytes(
        b"Surfing/v_Surfing_g01_c01.avi\r\nHandStandPushups/v_HandStandPushups_g01_c01.avi\r\n\r\n"
    )
    return Ucf101(str(clips), str(lists))


def test_ucf_reads_crlf_lists_and_both_spellings_of_a_class(ucf):
    split = make_split(ucf, "official1", 0, allow_missing=False)
    assert [clip.name for clip in split.train] == [
        "Surfing/v_Surfing_g02_c01.avi",
        "HandstandPushups/v_HandStandPushups_g02_c01.avi",
    ]
    assert [(clip.label, clip.source) for clip in split.test] == [
        ("Surfing", "Surfing g01"),
        ("HandstandPushups", "HandstandPushups g01"),
    ]
    assert (split.missing, split.unused, split.leaked) == (0, 0, 0)
    assert ucf.classes() == ["Surfing", "HandstandPushups", "Archery"]


def test_groups_of_two_classes_are_not_one_video(ucf):
    assert len({clip.source for clip in ucf.clips()}) == 4


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("classInd.txt", b"1 Surfing\n3 Archery\n", r"classInd.txt, line 2: 3 Archery'; accepted: 2 <class>"),
        ("classInd.txt", b"1 Surfing\n", r"HandstandPushups, a class that .*classInd.txt does not name"),
        ("trainlist01.txt", b"a_clip.avi 1\n", r"trainlist01.txt, line 1: a_clip.avi 1'; accepted: UCF101's lists"),
        (
            "testlist01.txt",
            b"Surfing/v_Surfing_g02_c01.avi\n",
            r"line 1: Surfing/v_Surfing_g02_c01.avi is in train too",
        ),
    ],
)
def test_a_wrong_ucf_list_is_named_with_its_line(ucf, file, content, message):
    (ucf.lists_dir / file).write_bytes(content)
    with pytest.raises(ArgumentError, match=message):
        make_split(ucf, "official1", 0, allow_missing=False)


def test_missing_folders_lists_and_odd_names_are_named(ucf, tmp_path):
    with pytest.raises(ArgumentError, match=r"^clips_dir: .*nowhere, which is no folder"):
        Ucf101(str(tmp_path / "nowhere"), str(ucf.lists_dir)).clips()
    with pytest.raises(ArgumentError, match=r"^lists_dir: .*No such file.*published lists"):
        Ucf101(str(ucf.clips_dir), str(tmp_path / "nowhere")).clips()
    with pytest.raises(ArgumentError, match=r"^lists_dir: .*trainlist02.txt"):
        make_split(ucf, "official2", 0, allow_missing=False)
    touch(ucf.clips_dir, "Archery/clip7.avi")
    with pytest.raises(ArgumentError, match=r"Archery/clip7.avi'; accepted: UCF101's clips, named"):
        ucf.clips()
    (ucf.clips_dir / "Archery" / "clip7.avi").rename(ucf.clips_dir / "Archery" / "clip7.txt")
    with pytest.raises(ArgumentError, match=r"Archery, a class without a clip"):
        ucf.clips()


@pytest.fixture
def hmdb(tmp_path):
    names = {
        "sword": ["Run_sword_fight_2_sword_f_cm_np1_le_med_2.avi", "Film!_(1)+_sword_u_nm_np2_fr_goo_0.avi"],
        "run": ["Run_sword_fight_2_run_f_cm_np1_le_med_0.avi", "Other_run_f_cm_np1_le_med_11.avi"],
    }
    lists = tmp_path / "lists"
    lists.mkdir()
    for label, files in names.items():
        touch(tmp_path / "clips", *(f"{label}/{name}" for name in files), f"{label}/X_{label}_f_cm_np1_le_med_0.avi")
        lines = f"{files[0]} 1 \n{files[1]} 2 \nX_{label}_f_cm_np1_le_med_0.avi 0 \n"
        (lists / f"{label}_test_split1.txt").write_text(lines)
    return Hmdb51(str(tmp_path / "clips"), str(lists))


def test_hmdb_reads_its_codes_and_odd_names(hmdb):
    split = make_split(hmdb, "official1", 0, allow_missing=False)
    assert [clip.label for clip in split.train] == ["run", "sword"]
    assert [clip.source for clip in split.train] == ["Run_sword_fight_2"] * 2  # one video, two classes
    assert [clip.source for clip in split.test] == ["Other", "Film!_(1)+"]
    assert split.unused == 2
    assert hmdb.classes() == ["run", "sword"]


@pytest.mark.parametrize("line", ["a.avi 3", "a.avi", "Surfing/v_Surfing_g02_c01.avi 1 x"])
def test_a_wrong_hmdb_list_is_named_with_its_line(hmdb, line):
    with (hmdb.lists_dir / "run_test_split1.txt").open("a") as file:
        file.write(f"\n{line}\n")
    with pytest.raises(ArgumentError, match=r"run_test_split1.txt, line 5: .*'; accepted: HMDB-51's lists"):
        hmdb.official(1)


def test_hmdb_without_lists_or_with_another_sets_clips_is_refused(hmdb, tmp_path):
    with pytest.raises(ArgumentError, match=r"holds no <class>_test_split1.txt"):
        Hmdb51(str(hmdb.clips_dir), str(tmp_path / "nowhere")).clips()
    touch(hmdb.clips_dir, "run/v_Surfing_g02_c01.avi")
    with pytest.raises(ArgumentError, match=r"accepted: HMDB-51's clips, named <video>_run_<six fields>"):
        hmdb.clips()
    touch(hmdb.clips_dir, "unknown/a.avi")
    (hmdb.clips_dir / "run" / "v_Surfing_g02_c01.avi").unlink()
    with pytest.raises(ArgumentError, match=r"unknown, a class without a list"):
        hmdb.clips()


def test_class_folders_take_any_video_and_sort(tmp_path):
    touch(tmp_path, "b/2.MP4", "b/1.mov", "a/x_part1.webm", "a/x_part2.webm", "a/.hidden/y.mp4")
    source = ClassFolders(str(tmp_path))
    assert [clip.name for clip in source.clips()] == ["a/x_part1.webm", "a/x_part2.webm", "b/1.mov", "b/2.MP4"]
    assert len({clip.source for clip in source.clips()}) == 4
    assert source.classes() == ["a", "b"]
    with pytest.raises(ArgumentError, match=r"^split: got 'official1'; accepted: random or grouped"):
        make_split(source, "official1", 0, allow_missing=False)
    with pytest.raises(
        ArgumentError, match=r"source_pattern: got '\^\(\.\+\)_part'; accepted: a pattern that fits every"
    ):
        ClassFolders(str(tmp_path), "^(.+)_part").clips()
    with pytest.raises(ArgumentError, match=r"source_pattern: got '\('; accepted: a regular expression"):
        ClassFolders(str(tmp_path), "(")
    with pytest.raises(ArgumentError, match="holds no folder of clips"):
        ClassFolders(str(touch(tmp_path / "empty", "a.mp4"))).clips()


def test_class_folders_take_lists_for_a_fixed_split(tmp_path):
    touch(tmp_path / "clips", "a/1.mp4", "a/2.mp4", "b/1 x.mp4", "b/2.mp4", "b/3.mp4")
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    train.write_text("a/1.mp4\r\nb/1 x.mp4\r\n\r\n")
    test.write_text("a\\2.mp4\nb/2.mp4\n")
    source = ClassFolders(str(tmp_path / "clips"), train_list=str(train), test_list=str(test))
    made = make_split(source, "listed", 0, allow_missing=False)
    assert [clip.name for clip in made.train] == ["a/1.mp4", "b/1 x.mp4"]
    assert [clip.name for clip in made.test] == ["a/2.mp4", "b/2.mp4"]
    assert made.unused == 1
    assert source.official(2) == {}
    for text, message in (
        ("a/1.mp4", "test_list: got .*line 1: a/1.mp4, in train too"), ("../../x/y.mp4", "test_list: .*<class>/<clip>"),
        ("1.mp4", "test_list: got .*line 1: 1.mp4'; accepted: <class>/<clip>"),
        ("a/9.mp4", "allow_missing: got 'false"),
    ):  # fmt: skip
        test.write_text(text)
        with pytest.raises(ArgumentError, match=f"^{message}"):
            make_split(source, "listed", 0, allow_missing=False)
    test.unlink()
    with pytest.raises(ArgumentError, match=r"^test_list: got .*No such file"):
        make_split(source, "listed", 0, allow_missing=False)
    with pytest.raises(ArgumentError, match=r"^test_list: got None"):
        ClassFolders(str(tmp_path), train_list=str(train))


def test_the_published_lists_are_read_whole(real_data):
    ucf = Ucf101(str(real_data / "ucf101" / "clips"), str(real_data / "ucf101" / "ucfTrainTestlist"))
    assert len(ucf.classes()) == 101
    for number, train in ((1, 9537), (2, 9586), (3, 9624)):
        parts = list(ucf.official(number).values())
        assert (parts.count(TRAIN), len(parts)) == (train, 13320)
    hmdb = Hmdb51(str(real_data / "hmdb51" / "clips"), str(real_data / "hmdb51" / "testTrainMulti_7030_splits"))
    assert len(hmdb.classes()) == 51
    for number in (1, 2, 3):
        parts = list(hmdb.official(number).values())
        assert (parts.count(TRAIN), parts.count(TEST)) == (51 * 70, 51 * 30)
    assert len(hmdb.clips()) == 6


def test_the_name_of_every_published_hmdb_clip_tells_its_video(real_data):
    hmdb = Hmdb51("nowhere", str(real_data / "hmdb51" / "testTrainMulti_7030_splits"))
    from pathlib import Path

    for name in hmdb.official(1):
        label, file = name.split("/")
        assert f"{hmdb._source(label, Path(file))}_{label}_" in file
