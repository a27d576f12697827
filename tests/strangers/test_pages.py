"""The README stays two screens, what pages lead to is there, and their commands are such as prunekit takes."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from prunekit.__main__ import COMMANDS
from prunekit.app import launcher
from prunekit.app.control import controlled
from tests.conftest import compose_config

launcher.register()

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
HYDRA = {"train", "extract"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of what is fenced."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Of its headings, as they are shown by GitHub."""
    headings = re.findall(r"^#+ (.*)", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(text: str) -> list[list[str]]:
    """Words of each prunekit command, of its own lines or within a sentence; without comments and numbers before it.

    In tables `...` stands for `prunekit train`. What the shell would put in is left out.
    """
    shown = [content for language, content in blocks(text) if language in ("", "bash")]
    indented = re.findall(r"(?:^    .*\S.*\n)+", prose(text), re.MULTILINE)
    lines = "\n".join([*shown, *indented]).replace("\\\n", " ").splitlines()
    inline = [re.sub(r"\s+", " ", code) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(text))]
    parts = [part for line in [*lines, *inline] for part in re.split(r"\| |; do |; done", line)]
    plain = [re.sub(r"^\s*(\d+ )?\s*|\S*\$\(.*?\)", "", part) for part in parts]
    found = [re.sub(r"^\.\.\. ", "prunekit train ", part) for part in plain]
    return [shlex.split(line, comments=True)[1:] for line in found if re.match(r"prunekit \w", line)]


def test_the_readme_is_two_screens():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 120] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_lead_somewhere(page):
    text = page.read_text()
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        if not there.is_file() or (anchor and anchor not in anchors(there.read_text())):
            lost.append(target)
    assert lost == []


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text()
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"]({page.name})" not in index]
    assert missing == ["README.md"]


def test_every_picture_is_shown():
    texts = "".join(page.read_text() for page in PAGES)
    assert [picture.name for picture in (ROOT / "docs").glob("*.png") if picture.name not in texts] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_of_pages_compiles(page):
    broken = []
    for language, content in blocks(page.read_text()):
        try:
            ast.parse(content if language == "python" else "")
        except SyntaxError as error:
            broken.append(str(error))
    assert broken == []


def composed(words: list[str]) -> dict:
    """The config of a command's first job."""
    overrides = [word for word in words if not word.startswith("-")]
    if "--cfg" in words:
        overrides.remove("job")
    several = "-m" in words
    # A key's first value, where it is swept; a list in brackets is one value.
    plain = [re.sub(r"^([^=]+=)([^\[,{$]*),.*", r"\1\2", each) if several else each for each in overrides]
    return OmegaConf.to_container(compose_config(*plain), resolve=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_of_pages_are_such_as_there_are(page):
    for name, *words in commands(page.read_text()):
        assert name in COMMANDS
        if name not in HYDRA:
            source = (ROOT / "prunekit" / "app" / f"{name}.py").read_text()
            assert [word for word in words if word.startswith("--") and f'"{word}"' not in source] == []
        elif not any(re.search(r"[=\[](my_|mine)", word) for word in words):  # the reader's own files
            controlled(composed(words))


def test_commands_are_found():
    inline = "Say `prunekit train seed=1\nname=x` or `... -m seed=1,2`.\n"
    fenced = "```\n2  prunekit report a \\\n    --out b  # c\nfor n in 1 2; do prunekit train run_dir=a$n; done\n```\n"
    piped = "\n    ffmpeg -i a - | prunekit predict b --stream -\n    prunekit export a \\\n        --int8\n"
    found = {" ".join(words) for words in commands(inline + fenced + piped)}
    assert found == {
        "train seed=1 name=x", "train -m seed=1,2", "report a --out b", "train run_dir=a$n", "predict b --stream -",
        "export a --int8",
    }  # fmt: skip
