"""Every command of every page runs, in small: short trainings on small data, a sweep's first jobs, in one folder.

Trainings of a page come first, since some pages show what is done with a run before they show how to make it.
"""

import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import conf
from prunekit.__main__ import main
from tests.data_modules.tasks import write_all
from tests.data_modules.videos import write_ucf, write_ucf_lists
from tests.strangers.test_pages import HYDRA, PAGES, ROOT, commands, name_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    # The command runs as `python -m` would; in a process of tests, unlike a user's, others may have imported it before.
    pytest.mark.filterwarnings("ignore:'prunekit.app.* found in sys.modules:RuntimeWarning"),
]

SHORT = ["dense_epochs=1", "trainer=debug", "trainer.limit_train_batches=2"]
CLIPS = ["model.units=16", "data.frames=3", "data.frame_size=[32,32]", "data.device=cpu"]
STEPS = ["model.units=8", "data.batch_size=10", "data.scoring=100"]
# Of an experiment whose name begins so: what makes its data small, or its training.
SMALL = {
    "synthetic": [*CLIPS, "data.source.groups=5", "data.source.frames=8", "data.source.frame_size=[32,32]"],
    "ucf101": [*CLIPS, "data.batch_size=8", "data.allow_missing=true", "data.backbone.weights=WEIGHTS"],
    **dict.fromkeys(["spoken", "mnist_rows", "ptb", "nottingham", "jsb"], STEPS),
}
HEATMAPS = ("mnist_region", "mnist_explain", "mnist_magnitude")  # pictures of each epoch take longer than all else
ASKED = {"control", "criterion"}  # keys that pages compare by, beside those that they pool
SET_HERE = {"dense_epochs", "trainer", "data.frames", "data.frame_size", "paths.cache_dir"}  # whatever the page says
# The reader's own parts, files and machines: what runs these is in the file named.
ELSEWHERE = {
    r"[=\[](my_|mine)": "tests/end_to_end/test_own_parts.py",
    r"trainer=gpu": "tests/standin",
    r"--stream -": "tests/app/test_live.py",
    r"shrink ": "tests/app/test_shrink.py",
    r"explain runs/mnist": "tests/end_to_end/test_explain.py",  # minutes, of a network that is not trained
}
ONCE = {"docs/tutorial.md": "tests/strangers/test_tutorial.py", "docs/recurrent_benchmark.md": "tests/benchmarks"}


def run_here(words: list[str]) -> bool:
    """Whether it is a command with what it takes, rather than the mention of one, and no other test runs it."""
    line = " ".join(words)
    mention = words[1:] in ([], ["-m"]) if words[0] != "train" else words[1:] == ["-m"]
    return not mention and not re.fullmatch(r"\w+ --\w+", line) and not any(re.search(own, line) for own in ELSEWHERE)


def key_of(override: str) -> str:
    return override.partition("=")[0]


def values(override: str) -> list[str]:
    """Those that a sweep takes in turn; commas within brackets part none."""
    return re.findall(r"(?:\[[^\]]*\]|[^,\[])+", override.partition("=")[2])


def unfolded(given: list[str]) -> list[str]:
    """The overrides with the keys of a file of ``conf/sweep`` in its place."""
    found = []
    for word in given:
        if key_of(word) == "sweep":
            params = OmegaConf.load(Path(conf.__file__).parent / "sweep" / f"{word[6:]}.yaml").hydra.sweeper.params
            found += [f"{key}={value}" for key, value in params.items() if key not in map(key_of, given)]
        else:
            found.append(word)
    return found


def shorter(words: list[str], pooled: set[str]) -> list[str]:
    """A training of little; of a sweep the first two values of its last key and of those compared, else the first."""
    command, *given = words
    if command not in HYDRA or "resume" in map(key_of, given):
        return words
    given = [word for word in unfolded(given) if key_of(word) not in SET_HERE and not word.startswith("hydra")]
    experiment = next((word.partition("=")[2] for word in given if key_of(word) == "experiment"), "digits_region")
    several = [number for number, word in enumerate(given) if "-m" in given and len(values(word)) > 1]
    for number in several:
        kept = 2 if number == several[-1] or key_of(given[number]) in ASKED | pooled else 1
        given[number] = f"{key_of(given[number])}={','.join(values(given[number])[:kept])}"
    added = [*SHORT, *(["~callbacks.heatmaps"] if experiment in HEATMAPS else [])] if command == "train" else []
    added += next((small for start, small in SMALL.items() if experiment.startswith(start)), [])
    return [command, *given, *(word for word in added if key_of(word) not in map(key_of, given))]


class Page:
    """A folder in which a page's commands are run one after the other, with what the reader has: a video, weights."""

    def __init__(self, folder: Path, video: Path, weights: Path) -> None:
        self.folder, self.video, self.weights = folder, video, weights

    def last(self, pattern: str = "runs/*/seed-*") -> Path:
        """The run that was made last, of those that match."""
        found = [path.parent for path in self.folder.glob(f"{pattern}/results.json")]
        return max(found, key=lambda path: path.stat().st_mtime)

    def filled(self, word: str) -> str:
        """A word of the page with what a reader would put there."""
        word = word.replace("/shared/", f"{self.folder}/")
        if "HASH" in word:
            named, _, rest = word.partition("HASH")
            folder = named.rpartition("/")[0]
            return f"{self.last(f'{folder}/seed-*').relative_to(self.folder)}{rest}"
        if word in ("RUN_DIR", "FOLDER", "resume=FOLDER"):
            return word.replace("RUN_DIR", "FOLDER").replace("FOLDER", str(self.last()))
        if word == "EXPORT":
            return str(self.last() / "export")
        if word in ("SOURCE", "clip.avi", "v.mp4"):
            return str(self.video)
        return re.sub("=(FILE|WEIGHTS)$", f"={self.weights}", word)


@pytest.fixture(scope="module")
def data(real_data, tmp_path_factory):
    """Small data of every kind beside the real MNIST."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "MNIST").symlink_to(real_data / "MNIST")
    write_all(folder)
    clips = write_ucf(folder / "ucf101" / "clips", {"Archery": 6, "Surfing": 6})
    for split in (1, 2):
        write_ucf_lists(folder / "ucf101" / "ucfTrainTestlist", clips, tested=(split,), split=split)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What pages compute of the same data, they share."""
    return tmp_path_factory.mktemp("cache")


def status():
    """What the command would leave as its exit status."""
    try:
        main()
    except SystemExit as ended:
        return ended.code or 0
    return 0


RUN_HERE = {
    name_of(page): [words for words in commands(page.read_text()) if run_here(words)]
    for page in PAGES
    if name_of(page) not in ONCE
}


@pytest.mark.parametrize("page", [name for name, found in RUN_HERE.items() if found])
def test_each_command_of_a_page_runs(page, data, cache, weights_file, tmp_path, monkeypatch, capsys):
    here = Page(tmp_path, next(data.rglob("*.mp4")), weights_file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRUNEKIT_DATA_DIR", str(data))
    monkeypatch.setenv("PRUNEKIT_CACHE_DIR", str(cache))
    pooled = {key for words in RUN_HERE[page] for option, key in pairwise(words) if option == "--pool"}
    for words in sorted(RUN_HERE[page], key=lambda each: each[0] not in HYDRA):
        given = [here.filled(word) for word in shorter(words, pooled)]
        before = {path for path in tmp_path.rglob("*") if path.is_file()}
        monkeypatch.setattr(sys, "argv", ["prunekit", *given])
        code, told = status(), capsys.readouterr()
        assert code == 0, f"{shlex.join(given)}: {told.out[-3000:]} {told.err[-3000:]}"
        left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
        assert left or told.out, f"{shlex.join(given)}: neither wrote nor said anything"


def test_commands_are_run_here_or_by_a_test_that_is_there():
    """What is left out, is left out for a reason that holds; and a page of commands is not left out by a regex."""
    assert [own for own in [*ELSEWHERE.values(), *ONCE.values()] if not (ROOT / own).exists()] == []
    assert sum(map(len, RUN_HERE.values())) > 80
