"""The page that can be sent: what is on it, and in a slow test whether a browser shows it without an error."""

import re
import shutil
import subprocess
from html import unescape
from itertools import product

import numpy as np
import PIL.Image
import pytest
from torch.utils.tensorboard import SummaryWriter

from prunekit.app.report import main, report
from prunekit.app.reports.page import Plot, from_lines, make_page, pictures
from tests.app.reports.folders import write, write_grid

HOSTILE = (
    "<img src=x onerror=\"document.title='taken'\">[a](javascript:alert(1))</script><script>document.title='taken'"
)
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)


def browse(page):
    """The document that a browser makes of a page, and what its console says."""
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=8000"]
    done = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    lines = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in lines if "setting log level to" not in line]  # which Bokeh always says


def hostile_grid(root):
    write_grid(root, config={"model": {"note": HOSTILE}})
    write(root / "other", 0, 0.6, ("entropy", "ascending", 0.2), {"model": {"note": f"{HOSTILE}2"}})


def test_tables_headings_and_lists_of_a_report_become_html_and_nothing_else_does():
    lines = ["## A <b>", "", "| x | y |", "| --- | --- |", "| 1 | <i> |", "", "- one", "**text**", "![p](p.png)"]
    assert from_lines(lines).splitlines() == [
        "<h2>A &lt;b&gt;</h2>",
        "<table><tr><th>x</th><th>y</th></tr>", "<tr><td>1</td><td>&lt;i&gt;</td></tr>", "</table>",
        "<div>&bull; one</div>", "<p>text</p>",
    ]  # fmt: skip


def test_a_page_of_a_sweep_is_one_file_that_loads_nothing(tmp_path):
    hostile_grid(tmp_path / "units")
    sweep = tmp_path / "sweeps" / "one"
    sweep.mkdir(parents=True)
    (sweep / "multirun.yaml").write_text("hydra: {overrides: {task: [experiment=units, 'seed=0,1,2']}}")
    (tmp_path / "sweeps" / "damaged").mkdir()
    (tmp_path / "sweeps" / "damaged" / "multirun.yaml").write_text("hydra: [")
    main([str(tmp_path / "units"), "--html", "--out", str(tmp_path / "out")])
    page = (tmp_path / "out" / "report.html").read_text()
    head = page.partition("<script")[0]
    assert "<div>&bull; prunekit train -m experiment=units seed=0,1,2</div>" in head
    assert "Points of accuracy against random order" in head
    without_scripts = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    assert not re.search(r"""<[a-z][^>]*\s(src|href)\s*=\s*(?!["']?data:)""", without_scripts)
    assert "<img src=x" not in without_scripts
    assert HOSTILE in unescape(without_scripts)
    assert without_scripts.count('src="data:image/webp;base64,') == 3


def test_the_same_runs_give_the_same_words_and_pictures(tmp_path):
    write_grid(tmp_path / "units")
    pages = []
    for number in (1, 2):
        report(tmp_path / "units", tmp_path / f"{number}", page=True)
        page = (tmp_path / f"{number}" / "report.html").read_text()
        pages.append(re.sub(r"nonce\S+|<div id.*?>", "", page.partition("<script")[0]))
    assert pages[0] == pages[1]


def test_pictures_have_room_up_to_a_point_and_damaged_ones_are_named(tmp_path, monkeypatch):
    chances = np.random.default_rng(0)
    for number in range(3):
        pixels = chances.integers(0, 255, (300, 300, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(tmp_path / f"p_{number}.png")
    (tmp_path / "x.png").write_text("<svg onload='alert(1)'/>")
    monkeypatch.setattr("prunekit.app.reports.page.MOST_BYTES", 250_000)
    made = pictures(sorted(tmp_path.glob("*.png")))
    shown = [part for part in made if "<figure>" in part]
    assert 1 <= len(shown) < 3
    assert "p 0" in shown[0]
    assert made[-1].startswith("<p>Left out, for want of room: ")
    assert "p_2.png" in made[-1]
    assert "x.png (not readable)" in made[-1]


def test_a_picture_of_too_many_pixels_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("prunekit.app.reports.page.MOST_PIXELS", 100)
    PIL.Image.new("RGB", (20, 20)).save(tmp_path / "large.png")
    assert "large.png (not readable)" in pictures([tmp_path / "large.png"])[-1]


def test_a_page_without_drawings_has_no_scripts():
    assert "<script" not in make_page("a < b", ["<p>c</p>"], [])
    assert "<title>a &lt; b</title>" in make_page("a < b", ["<p>c</p>"], [])


def test_without_bokeh_it_says_what_to_install_and_writes_nothing(tmp_path, monkeypatch, capsys):
    write_grid(tmp_path / "units")
    monkeypatch.setitem(__import__("sys").modules, "bokeh", None)
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "units"), "--html", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "pip install 'prunekit[page]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def write_one(root):
    write(
        root / "one",
        0,
        0.6,
        ("entropy", "ascending", 0.2),
        {"model": {"note": HOSTILE}},
        events=[{"name": "a", "acc": 1}],
    )
    with SummaryWriter(str(root / "one")) as writer:
        for step in range(5):
            writer.add_scalar("test/accuracy", 0.1 * step, step)
    (root / "one" / "figures").mkdir()
    PIL.Image.new("RGB", (400, 300), "red").save(root / "one" / "figures" / "heat_map.png")


def test_a_page_of_one_run_has_its_curves_events_pictures_and_configuration(tmp_path):
    write_one(tmp_path)
    report(tmp_path / "one", tmp_path / "out", page=True)
    page = (tmp_path / "out" / "report.html").read_text()
    head = page.partition("<script")[0]
    assert "<h1>units, seed 0: one</h1>" in head
    for words in ("metrics.final/test_acc</th><td>0.6<", "<td>a</td><td>1</td>", "heat map", "<h2>Curves</h2>"):
        assert words in head
    assert "onerror=&quot;" in head
    assert '"test/accuracy"' in page.partition("<script")[2]


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
@pytest.mark.parametrize("kind", ["sweep", "run"])
def test_a_browser_shows_it_without_an_error_and_nothing_of_a_config_runs(kind, tmp_path):
    hostile_grid(tmp_path / "units") if kind == "sweep" else write_one(tmp_path / "units")
    folder = tmp_path / "units" if kind == "sweep" else tmp_path / "units" / "one"
    report(folder, tmp_path / "out", page=True)
    document, console = browse(tmp_path / "out" / "report.html")
    assert console == []
    assert "<title>taken" not in document
    drawn = re.sub(r"<script.*?</script>", "", document, flags=re.S)
    assert ("bk-Figure" if kind == "sweep" else "bk-Column") in drawn
    assert ("bk-DataTable" in drawn) == (kind == "sweep")


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="no Chromium here")
def test_a_browser_tells_a_broken_page(tmp_path):
    """So that the test above can fail."""
    from bokeh.plotting import figure

    drawing = figure()
    drawing.line([0, 1], [0, 1])
    before, end, after = make_page("a", ["<p>b</p>"], [Plot("c", drawing)]).rpartition("</body>")
    (tmp_path / "page.html").write_text(f"{before}<script>document.title = 'taken'</script>{end}{after}")
    document, console = browse(tmp_path / "page.html")
    assert "Content Security Policy" in console[0]
    assert "<title>a</title>" in document


@pytest.mark.slow
def test_a_page_of_500_runs_stays_below_five_megabytes(tmp_path):
    grid = product(range(5), ("entropy", "random"), range(10), (0.1, 0.3, 0.5, 0.7, 0.9))
    for number, (seed, criterion, units, rate) in enumerate(grid):
        config = {"model": {"units": units}}
        write(tmp_path / "units" / f"{number}", seed, 0.5, (criterion, "ascending", rate), config)
    report(tmp_path / "units", tmp_path / "out", page=True)
    assert (tmp_path / "out" / "report.html").stat().st_size < 5_000_000
