"""The site is built without a warning, what it links to is there, and it calls nobody."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
SHELVES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs")


def build(top: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """As ``make docs`` does, of another tree or into another folder."""
    (line,) = re.findall(r"-m (sphinx .*)", (ROOT / "Makefile").read_text())
    words = line.replace("site/", f"{out}/").split()
    return subprocess.run([sys.executable, "-m", *words, *more], cwd=top, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder / "html"


class Page(HTMLParser):
    """What can be led to in a page, where it leads, and what a browser would fetch for it."""

    def __init__(self, file: Path):
        super().__init__()
        self.ids, self.links, self.parts = set(), [], []
        self.feed(file.read_text())

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("link", "img", "script", "iframe", "source"):
            self.parts += [given[name] for name in ("href", "src") if given.get(name)]


@pytest.fixture(scope="module")
def pages(site):
    return {file: Page(file) for file in site.rglob("*.html")}


def test_every_link_and_anchor_leads_somewhere(site, pages):
    lost = []
    for file, page in pages.items():
        for link in page.links + page.parts:
            where = urlsplit(link)
            if where.scheme:
                continue
            there = (file.parent / unquote(where.path)).resolve() if where.path else file
            fine = there.is_file() and (not where.fragment or unquote(where.fragment) in pages[there].ids)
            if not fine:
                lost.append(f"{file.relative_to(site)}: {link}")
    assert lost == []
    assert sum(len(page.links) for page in pages.values()) > 1000


def test_a_browser_fetches_nothing_from_elsewhere(site, pages):
    assert [part for page in pages.values() for part in page.parts if urlsplit(part).netloc] == []
    styles = "".join(file.read_text() for file in site.rglob("*.css"))
    assert [url for url in re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", styles) if urlsplit(url).netloc] == []


def test_it_has_each_page_the_notebooks_pictures_and_what_docstrings_say(site, pages):
    shelf = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/api/*.md"), *ROOT.glob("docs/*.ipynb")]
    missing = [file.name for file in shelf if not (site / file.relative_to(ROOT)).with_suffix(".html").is_file()]
    assert missing == []
    assert len([part for part in pages[site / "docs" / "first_hour.html"].parts if part.endswith(".png")]) == 2
    assert "prunekit.shrinking.shrink" in pages[site / "docs" / "api" / "calls.html"].ids
    assert "url=docs/index.html" in (site / "index.html").read_text()


@pytest.mark.parametrize(
    ("link", "said"),
    [("(runs.md#no-such-part)", "local id not found in doc 'docs/runs'"), ("(no_such_page.md)", "no_such_page.md")],
)
def test_a_link_that_leads_nowhere_ends_the_build(link, said, tmp_path):
    for name in SHELVES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for page in set(tmp_path.glob("docs/api/*.md")) - {tmp_path / "docs" / "api" / "index.md"}:
        page.write_text("# Empty\n")  # the slow part
    home = tmp_path / "docs" / "index.md"
    home.write_text(f"{home.read_text()}\n[lost]{link}\n")
    done = build(tmp_path, tmp_path / "out", "-D", "nb_execution_mode=off")
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if "WARNING" in line]
    assert len(told) == 1, done.stderr
    assert said in told[0]
