"""Whole recognisers in a report: which are not outdone, which are told of, and what is drawn."""

from itertools import product

import pytest

from prunekit.app.report import report
from prunekit.app.reports.collect import collect, plain, pooled
from prunekit.app.reports.frame_figures import draw_frames
from prunekit.app.reports.frames import chosen, frame_table, on_front, recognizers
from tests.app.reports.folders import write

SIZES = {(240, 320): 0.030, (120, 160): 0.010}
LOSSES = {((240, 320), 25): 0.0, ((240, 320), 8): 0.005, ((120, 160), 25): 0.009, ((120, 160), 8): 0.04}


def write_streams(root, rates=(0.5, 0.95), **more):
    """2 sizes x 2 numbers of frames x rates x 2 splits; a rate costs a tenth of it in points, and network time."""
    for (size, frames), rate, split in product(LOSSES, rates, (1, 2)):
        dense = 0.95 + 0.01 * split - LOSSES[size, frames]
        seconds = {"decoding": 0.001 * 25 / frames, "backbone": SIZES[size], "dense": 0.008}
        frame = {"threads": 1, "every": 7 / frames, "seconds": seconds | {"compact": 0.008 * (1 - rate)}}
        metrics = {"dense/test_acc": dense, "pruned/test_acc": 0.1, "final/test_acc": dense - 0.01 * rate / 2}
        config = {"data": {"frame_size": list(size), "frames": frames, "split": f"official{split}"}}
        folder = root / f"{size[0]}-{frames}-{rate}-{split}"
        write(folder, 0, 0.0, ("entropy", "ascending", rate), config, frame=frame, metrics=metrics, **more)


@pytest.fixture
def runs(tmp_path):
    write_streams(tmp_path / "runs")
    return pooled(collect(tmp_path / "runs"), ["data.split"])


def test_a_recognisers_frame_takes_all_of_its_parts(runs):
    found = recognizers(runs)
    assert len(found) == 4 * 3
    assert runs.axes == ["data.frame_size", "data.frames"]
    dense = found[(found["rate"] == 0.0) & (found["data.frames"] == 8) & (found["data.frame_size"] == "[120, 160]")]
    [row] = dense.to_dict("records")
    assert (plain(row["criterion"]), row["n"]) == (None, 2)
    assert row["accuracy.mean"] == pytest.approx(0.965 - 0.04)
    parts = [row[part] for part in ("decoding", "backbone", "network")]
    assert parts == pytest.approx([1 * 25 / 8, 10, 8])
    assert row["frame"] == pytest.approx(sum(parts))
    assert row["second"] == pytest.approx(sum(parts) * 8 / 7)
    pruned = found[(found["rate"] == 0.95) & (found["data.frames"] == 25) & (found["data.frame_size"] == "[240, 320]")]
    [row] = pruned.to_dict("records")
    assert (row["network"], row["criterion"]) == (pytest.approx(0.4), "entropy")
    assert row["accuracy.mean"] == pytest.approx(0.965 - 0.00475)


@pytest.mark.parametrize(
    ("cost", "good", "front"),
    [
        ([], [], []),
        ([1.0, 1.0], [0.5, 0.5], [True, False]),  # of equals one
        ([3.0, 1.0, 2.0], [0.9, 0.5, 0.4], [True, True, False]),
        ([2.0, 1.0], [0.5, 0.5], [False, True]),
    ],
)
def test_the_front_is_of_those_that_none_outdoes(cost, good, front):
    assert on_front(cost, good) == front


def test_the_table_tells_of_the_dense_one_of_the_network_alone_and_of_the_best_within_a_point(runs):
    found = recognizers(runs)
    said = chosen(found, runs.axes)

    def settings(words):
        [place] = [place for place, why in said.items() if words in why]
        row = found.loc[place]
        return row["data.frame_size"], row["data.frames"], row["rate"]

    assert settings("dense") == ("[240, 320]", 25, 0.0)
    assert settings("network alone pruned") == ("[240, 320]", 25, 0.95)
    # Sizes and units together lose more than a point, so it is the other network of the small frames.
    assert settings("within 1 point, least a frame") == ("[120, 160]", 25, 0.0)
    assert settings("within 1 point, least a second") == ("[240, 320]", 8, 0.95)
    fronts = {place for place, why in said.items() if "front a frame" in why}
    assert {(found.loc[p, "data.frame_size"], found.loc[p, "data.frames"]) for p in fronts} == {
        ("[120, 160]", 25), ("[240, 320]", 25),
    }  # fmt: skip
    text = frame_table(found, runs.axes)
    [row] = [line for line in text if line.startswith("| dense;")]
    cells = ["[240, 320]", "25", "", "0.0%", "96.5 ± 6.4", "0.0", "1.00", "30.00", "8.00", "39.00", "139", "2"]
    assert row.split(" | ")[1:] == [*cells[:-1], "2 |"]
    told = [line.split(" | ")[-2] for line in text if line.startswith("| ")][2:]
    assert told[0] == "139"
    assert told == sorted(told, key=int, reverse=True)


def test_where_no_pruned_network_stays_within_a_point_the_best_is_told(tmp_path):
    write_streams(tmp_path, rates=(0.5,))
    for path in tmp_path.rglob("results.json"):
        text = path.read_text()
        path.write_text(text.replace('"final/test_acc": 0.9', '"final/test_acc": 0.5'))
    runs = collect(tmp_path)
    found = recognizers(runs)
    [place] = [place for place, why in chosen(found, runs.axes).items() if "network alone pruned" in why]
    assert (found.loc[place, "rate"], found.loc[place, "data.frames"]) == (0.5, 25)


def test_the_front_is_drawn_and_dense_networks_are_hollow(runs):
    figure = draw_frames(recognizers(runs), runs.axes)
    assert [axes.get_xlabel() for axes in figure.axes] == ["ms a frame, one thread", "ms a second of video, one thread"]
    for axes in figure.axes:
        lines = axes.get_lines()
        points = [line for line in lines if line.get_marker() == "o"]
        hollow = sum(len(line.get_xdata()) for line in points if line.get_markerfacecolor() == "none")
        assert (hollow, sum(len(line.get_xdata()) for line in points)) == (4, 12)
        [front] = [line for line in lines if line.get_drawstyle() == "steps-post"]
        assert list(front.get_xdata()) == sorted(front.get_xdata())
        assert list(front.get_ydata()) == sorted(front.get_ydata())
    assert len(figure.legends[0].get_texts()) == 2 + 4


def test_a_report_has_the_table_where_runs_are_of_clips_and_nothing_elsewhere(tmp_path):
    write_streams(tmp_path / "streams")
    report(tmp_path / "streams", tmp_path / "a")
    text = (tmp_path / "a" / "report.md").read_text()
    assert "## Whole recognisers, a frame at a time" in text
    assert "![frames](frames.png)" in text
    assert (tmp_path / "a" / "frames.png").stat().st_size > 10_000
    write(tmp_path / "plain" / "x", 0, 0.5, ("entropy", "ascending", 0.5))
    report(tmp_path / "plain", tmp_path / "b")
    assert "Whole recognisers" not in (tmp_path / "b" / "report.md").read_text()


def test_controls_are_no_recognisers_of_their_own(tmp_path):
    write_streams(tmp_path)
    said = {"name": "scratch", "order": "ascending", "rate": 0.5}
    frame = {"threads": 1, "every": 1.0, "seconds": {"decoding": 0.1, "backbone": 0.1, "dense": 0.1}}
    config = {"data": {"frame_size": [240, 320], "frames": 25, "split": "official1"}, "control": "scratch"}
    write(tmp_path / "c", 0, 0.99, None, config, control=said, frame=frame)
    runs = collect(tmp_path)
    assert "from scratch" in set(runs.table["criterion"])
    assert recognizers(runs)["frame"].max() == pytest.approx(41.125)


def test_dense_runs_alone_have_their_front_too(tmp_path):
    for number, (size, seconds) in enumerate(SIZES.items()):
        frame = {"threads": 1, "every": 1.0, "seconds": {"decoding": 0.001, "backbone": seconds, "dense": 0.008}}
        write(tmp_path / str(number), 0, 0.9, None, {"data": {"frame_size": list(size)}}, frame=frame)
    runs = collect(tmp_path)
    assert sorted(recognizers(runs)["frame"]) == pytest.approx([19.0, 39.0])
