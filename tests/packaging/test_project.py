"""What stands in one place is named alike in the others: extras, locked versions, licence; and what `make` installs."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Of the Citation File Format 1.2.0, what a citation has to have and may have on top.
WANTED = {"authors", "cff-version", "message", "title"}
ALLOWED = WANTED | {
    "abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license", "license-url",
    "preferred-citation", "references", "repository", "repository-artifact", "repository-code", "type", "url",
    "version",
}  # fmt: skip


def locked(name: str) -> set[str]:
    """The lines of a lock, without what is said above them and for which machines each is."""
    return {line.partition(" ;")[0] for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")}


def names(words: set[str] | list[str]) -> set[str]:
    return {re.match(r"[\w-]+", word)[0].lower() for word in words}


def test_each_extra_that_a_text_names_is_there():
    files = [file for kind in ("md", "py", "yaml") for file in ROOT.glob(f"[!.]*/**/*.{kind}")]
    texts = "".join(file.read_text() for file in [*files, ROOT / "README.md"] if "runs" not in file.parts[:-1])
    found = {name for each in re.findall(r"prunekit\[([\w,]+)\]", texts) for name in each.split(",")}
    assert found - set(EXTRAS) == set()
    assert {"sweeps", "cluster", "ray", "export", "attribution", "page"} <= found


def test_the_first_run_installs_no_more_than_it_needs():
    run = locked("requirements-run.lock")
    assert run <= locked("requirements.lock")
    assert names(PROJECT["dependencies"]) <= names(run)
    more = {name for extra in EXTRAS.values() for name in names(extra)} - names(PROJECT["dependencies"])
    assert more & names(run) == set()
    assert names(locked("requirements.lock")) >= more - {"prunekit"}


@pytest.mark.parametrize(("words", "cuda"), [((), True), (("TORCH=cpu",), False)])
def test_what_make_installs_brings_cuda_unless_it_is_told_not_to(words, cuda):
    told = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv", *words], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (sieve,) = [line.partition(" >")[0] for line in told.stdout.splitlines() if line.startswith("grep")]
    left = subprocess.run(shlex.split(sieve), cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert ("nvidia-" in left, "cuda-" in left, "triton" in left) == (cuda, cuda, cuda)
    assert {"torch", "torchvision"} <= names([line for line in left.splitlines() if not line.startswith("#")])
    assert ("https://download.pytorch.org/whl/cpu" in told.stdout) != cuda


def test_the_citation_is_one_and_says_what_the_project_says():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert WANTED <= set(cited) <= ALLOWED
    assert (cited["cff-version"], cited["type"]) == ("1.2.0", "software")
    assert (cited["title"], cited["license"]) == (PROJECT["name"], PROJECT["license"])
    assert all(author.get("name") or author.get("family-names") for author in cited["authors"])
    assert all(isinstance(cited[key], str) and cited[key] for key in ("message", "title", "abstract"))
