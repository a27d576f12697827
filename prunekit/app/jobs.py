"""What became of a sweep's jobs, on disk: one file of all that were planned, and one a job while they run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from prunekit.files import write_json

JOBS = "jobs.json"


class Job(TypedDict):
    """One job: ``finished``, ``failed``, ``cut off`` if it began and did not live to tell, or ``not started``."""

    number: int
    overrides: list[str]
    state: str
    run: str | None
    error: str | None
    traceback: str | None


def new_job(number: int, overrides: Sequence[str], state: str) -> Job:
    """A job of which no more is known."""
    return Job(number=number, overrides=list(overrides), state=state, run=None, error=None, traceback=None)


def plan(folder: Path, overrides: Sequence[Sequence[str]]) -> None:
    """Write down all jobs of a sweep before the first of them starts."""
    write_json(folder / JOBS, [new_job(number, words, "not started") for number, words in enumerate(overrides)])


def leave(folder: Path, job: Job) -> None:
    """Write down what became of one job; jobs in any processes do so at once, each in a file of its own."""
    write_json(_single(folder, job), job, durable=False)


def read_jobs(folder: Path) -> list[Job]:
    """All jobs of a sweep as far as is known, in order; damaged files are passed over."""
    jobs: dict[int, Job] = {}
    for path in (folder / JOBS, *sorted(folder.glob("job*[0-9].json"))):
        try:
            content = json.loads(path.read_text())
            for job in content if path.name == JOBS else [content]:
                jobs[job["number"]] = Job(**{key: job[key] for key in Job.__annotations__})  # type: ignore[typeddict-item]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return [jobs[number] for number in sorted(jobs)]


def gather(folder: Path) -> list[Job]:
    """All jobs; afterwards they lie in one file, but for those that may still be running."""
    jobs = read_jobs(folder)
    if jobs:
        write_json(folder / JOBS, jobs)
    for job in jobs:
        if job["state"] in ("finished", "failed"):
            _single(folder, job).unlink(missing_ok=True)
    return jobs


def _single(folder: Path, job: Job) -> Path:
    return folder / f"job{job['number']:05}.json"
