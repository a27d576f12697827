"""The door to verdicts: ``prunekit compare FOLDER ...`` holds ways of making networks smaller against each other."""

import argparse
import logging
import math
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from prunekit.app.door import errors_told
from prunekit.app.reports.compared import SHORT, Paired, Task, pair
from prunekit.app.reports.panels import new_grid
from prunekit.app.reports.questions import QUESTIONS, Question
from prunekit.app.reports.rows_file import read_any, write_rows
from prunekit.app.reports.text import markdown_head
from prunekit.app.reports.verdicts import BETTER, WORSE, Interval, improvement, probability_of_improvement
from prunekit.app.reports.writing import save_figure, write_text
from prunekit.errors import ArgumentError

ABREAST = 4  # panels
LEAST = 5  # networks that a bootstrap interval is of
log = logging.getLogger("prunekit")


class Compared(NamedTuple):
    """What came of a comparison: its verdicts in lines for a terminal, and the files written."""

    verdicts: list[str]
    written: list[Path]


def compare(given: Sequence[Path], out: Path, questions: Sequence[Question] = QUESTIONS) -> Compared:
    """Write what the runs in folders say to questions.

    Args:
        given: folders of runs of one or several experiments, each of which is a task, or files ``compared.csv``.
        out: a folder for ``compared.md``, ``compared.csv`` with the rows of all runs, which can be given in their
            place, and ``compared.png`` and ``.svg`` where something can be compared.
        questions: each two ways.

    Raises:
        ArgumentError: if a folder holds no finished run, or several runs of a network answer to a way's words.
    """
    tasks = read_any(given)
    problems = list(dict.fromkeys(line for task in tasks for line in task.problems))
    if problems:
        log.warning("%d runs are not in the comparison, which names them; the first: %s", len(problems), problems[0])
    answers = [(question, _answer(tasks, question)) for question in questions]
    lines = ["# Which is better, task by task", "", *_preface(tasks), *(f"- {line}" for line in problems), ""]
    answered = [(question, found) for question, found in answers if found]
    lines += _matrix(answered)
    verdicts = []
    for question, found in answered:
        lines += _told(question, found, tasks)
        verdicts.append(f"{question.words}:")
        verdicts += [f"  {each.task.name}, {100 * each.rate:g} % removed: {_verdict(each)}" for each in found]
    lines += _reached(tasks)
    if len(answered) < len(questions):
        lines += ["## Not asked", "", "No network has both ways of these:", ""]
        lines += [f"- {question.words}" for question, found in answers if not found]
    if not answered:
        verdicts = ["no network has both ways of any question; compared.md names the questions"]
    written = [write_text(out / "compared.md", "\n".join([*lines, ""])), write_rows(out / "compared.csv", tasks)]
    return Compared(verdicts, written + (save_figure(draw(answered), out / "compared") if answered else []))


def _answer(tasks: Sequence[Task], question: Question) -> list[Paired]:
    rows = [row.said for task in tasks for row in task.rows]
    for key, value in (*question.ours.items(), *question.theirs.items()):
        if question not in QUESTIONS and not any(key in row for row in rows):
            raise ArgumentError("way", key, f"one of {', '.join(SHORT)}, or a key of these runs' configs")
        values = dict.fromkeys(row[key] for row in rows if key in row)
        if question not in QUESTIONS and value not in values:  # not every folder has runs for each of ours
            raise ArgumentError("way", f"{key}={value}", f"what runs here have: {', '.join(sorted(values))}")
    return [found for task in tasks for found in pair(task, question.ours, question.theirs)]


def _preface(tasks: Sequence[Task]) -> list[str]:
    names = ", ".join(f"{task.name} ({len(task.rows)} rows)" for task in tasks)
    return [
        f"Tasks: {names}.",
        "",
        "An improvement is positive where ours is better: points of accuracy, or of another metric by how much it is "
        "lower. Means over networks with paired 95 % Student t-intervals; a verdict is what such an interval says by "
        "itself, so that of twenty verdicts one may be chance. `P` is the probability that a run of ours is better "
        "than one of theirs, of which few networks say little; over all tasks with a stratified bootstrap interval. "
        "Training is in multiply-adds, all that led to the network.",
        "",
    ]


def _matrix(answered: Sequence[tuple[Question, Sequence[Paired]]]) -> list[str]:
    """All improvements: for each rate a table, with a row for each question and a column for each task."""
    if not answered:
        return []
    every = [each for _, found in answered for each in found]
    lines = ["## At a glance", "", "Improvement of ours, bold where its interval is all on one side of 0.", ""]
    for rate in sorted({each.rate for each in every}):
        tasks = sorted({(each.task.name, _unit(each)) for each in every if each.rate == rate})
        lines += [f"### {100 * rate:g} % removed", ""]
        lines += markdown_head(["ours, against theirs", *(f"{name}, {unit}" for name, unit in tasks)])
        for question, found in answered:
            cells = {(each.task.name, _unit(each)): _short(each) for each in found if each.rate == rate}
            if cells:
                lines.append(f"| {question.words} | {' | '.join(cells.get(task, '') for task in tasks)} |")
        lines.append("")
    return lines


def _reached(tasks: Sequence[Task]) -> list[str]:
    """Means over networks of all that was tried, for each rate: a row for each way, controls last, a column a task."""
    found: dict[float, dict[tuple[str, ...], dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for task in tasks:
        for row in task.rows:
            if row.rate > 0:
                way = tuple(row.said[key] for key in SHORT)
                found[row.rate][way][task.name].append(task.metric.scale * row.value)
    units = {task.name: f"{task.metric.name}{', %' if task.metric.share else ''}" for task in tasks}
    lines = ["## What each way reached", "", "Means over networks, in brackets over how many if not over all.", ""]
    for rate, ways in sorted(found.items()):
        names = sorted({name for own in ways.values() for name in own})
        most = {name: max(len(own[name]) for own in ways.values() if name in own) for name in names}
        lines += [f"### {100 * rate:g} % removed: what each way reached", ""]
        lines += markdown_head([*SHORT, *(f"{name}, {units[name]}" for name in names)])
        for way in sorted(ways, key=lambda words: (words[SHORT.index("control")] != "none", words)):
            cells = []
            for name in names:
                values = ways[way].get(name, [])
                few = f" ({len(values)})" if values and len(values) < most[name] else ""
                cells.append(f"{sum(values) / len(values):.4g}{few}" if values else "")
            lines.append(f"| {' | '.join([*way, *cells])} |")
        lines.append("")
    return lines


def _short(of: Paired) -> str:
    gain = _gain(of)
    text = f"{round(of.task.metric.scale * gain.mean, 9) + 0.0:+.3g}"  # neither rounding's rest nor -0
    return f"**{text}**" if gain.verdict in (BETTER, WORSE) else text


def _told(question: Question, found: Sequence[Paired], tasks: Sequence[Task]) -> list[str]:
    lines = [f"## {question.words}", "", f"`{_words(question.ours)}` against `{_words(question.theirs)}`", ""]
    if absent := [task.name for task in tasks if task.name not in {each.task.name for each in found}]:
        lines += [f"No networks with both: {', '.join(absent)}.", ""]
    heads = ("task", "removed", "ours", "theirs", "improvement", "P", "networks", "training", "verdict")
    lines += markdown_head(heads)
    for each in sorted(found, key=lambda one: (one.rate, one.task.name)):
        metric, gain = each.task.metric, _gain(each)
        scale, unit = metric.scale, "" if metric.share else f" {metric.key}"
        chance = probability_of_improvement([(each.ours, each.theirs)], [_sign(each)])
        means = (f"{scale * sum(values) / len(values):.4g}{unit}" for values in (each.ours, each.theirs))
        work = "" if None in each.work else " / ".join(f"{value:.1e}" for value in each.work if value is not None)
        cells = [each.task.name, f"{100 * each.rate:g} %", *means, _interval(gain, scale), f"{chance.mean:.2f}",
                 str(len(each.ours)), work, gain.verdict]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for rate, (chance, same) in _over_tasks(found).items():
        verdicts = [_gain(each).verdict for each in same]
        counts = f"better on {verdicts.count(BETTER)}, worse on {verdicts.count(WORSE)} of {len(same)} tasks"
        lines += [f"- {100 * rate:g} % removed: {counts}; P = {_interval(chance, 1, 2)}"]
    return [*lines, ""]


def _unit(of: Paired) -> str:
    return "points" if of.task.metric.share else of.task.metric.key


def _sign(of: Paired) -> int:
    return 1 if of.task.metric.higher_is_better else -1


def _gain(of: Paired) -> Interval:
    return improvement(of.ours, of.theirs, _sign(of), 1.0 if of.task.metric.share else math.inf)


def _verdict(of: Paired) -> str:
    """Such as ``+13 (7.69 to 19) points, better, 9 networks``."""
    gain = _gain(of)
    told = f"{'+' if gain.mean > 0 else ''}{_interval(gain, of.task.metric.scale)}"
    networks = f", {len(of.ours)} networks" if len(of.ours) > 1 else ""
    return f"{told} {_unit(of)}, {gain.verdict}{networks}"


def _over_tasks(found: Sequence[Paired]) -> dict[float, tuple[Interval, list[Paired]]]:
    """By rate; of few networks a bootstrap gives intervals that are too narrow, so these have none."""
    made = {}
    for rate in sorted({each.rate for each in found}):
        same = [each for each in found if each.rate == rate]
        chance = probability_of_improvement([(each.ours, each.theirs) for each in same], [_sign(each) for each in same])
        enough = sum(len(each.ours) for each in same) >= LEAST
        made[rate] = (chance if enough else Interval(chance.mean, math.nan, math.nan)), same
    return made


def _interval(of: Interval, scale: float, digits: int | None = None) -> str:
    form = ".3g" if digits is None else f".{digits}f"
    if math.isnan(of.low):
        return f"{scale * of.mean:{form}}"
    return f"{scale * of.mean:{form}} ({scale * of.low:{form}} to {scale * of.high:{form}})"


def _words(way: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in way.items())


def draw(answers: Sequence[tuple[Question, Sequence[Paired]]]) -> Figure:
    """Draw the probability of improvement over all tasks at each rate, a panel for each question."""
    columns = min(len(answers), ABREAST)
    figure, grid = new_grid(math.ceil(len(answers) / columns), columns, 2.7, 2.9, sharey=True)
    for axes in grid.flat[len(answers) :]:
        axes.set_axis_off()
    for (question, found), axes in zip(answers, grid.flat, strict=False):
        points = {rate: chance for rate, (chance, _) in _over_tasks(found).items()}
        rates = list(points)
        for at, chance in enumerate(points.values()):
            bars = None if math.isnan(chance.low) else [[chance.mean - chance.low], [chance.high - chance.mean]]
            filled = {} if bars else {"markerfacecolor": "none"}  # too few networks to tell, as the axis says
            axes.errorbar([at], [chance.mean], yerr=bars, fmt="o", color="C0", capsize=3, **filled)
        axes.axhline(0.5, color="0.6", linewidth=1)
        few = any(math.isnan(chance.low) for chance in points.values())
        counts = {rate: sum(len(each.ours) for each in found if each.rate == rate) for rate in rates}
        axes.set_xticks(range(len(rates)), [f"{100 * rate:g} %\nnetworks: {counts[rate]}" for rate in rates])
        axes.set(
            ylim=(-0.03, 1.03),
            xlim=(-0.5, len(rates) - 0.5),
            xlabel=f"removed\nhollow: fewer than {LEAST}\nnetworks do not tell" if few else "removed",
        )
        axes.set_title(textwrap.fill(question.words, 34), fontsize=8)
    for axes in grid[:, 0]:
        axes.set_ylabel("probability that ours is better")
    return figure


def _way(text: str) -> dict[str, str]:
    pairs = [word.partition("=") for word in text.split()]
    if not pairs or any(not sign or not key for key, sign, _ in pairs):
        raise argparse.ArgumentTypeError(f"got {text!r}; accepted: words such as 'criterion=random retrain_epochs=1'")
    return {key: value for key, _, value in pairs}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command and write the comparison."""
    parser = argparse.ArgumentParser(
        prog="prunekit compare", description="Which way of making networks smaller is better."
    )
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        help="of runs, each such as runs/<experiment>; or a compared.csv in their place",
    )
    parser.add_argument("--out", type=Path, default=Path("compared"), help="a folder; default: compared")
    parser.add_argument(
        "--ours",
        type=_way,
        help="'key=value ...' that our runs answer to; default: the questions that compared.md lists",
    )
    parser.add_argument("--theirs", type=_way, help="the same for the others")
    given = parser.parse_args(arguments)
    if (given.ours is None) != (given.theirs is None):
        parser.error("--ours and --theirs go together")
    asked: Sequence[Question] = QUESTIONS
    if given.ours is not None:
        asked = (Question(f"{_words(given.ours)}, against {_words(given.theirs)}", given.ours, given.theirs),)
    with errors_told():
        there = (given.out / "compared.md").exists()
        found = compare(given.folders, given.out, asked)
        if there:
            log.warning("the comparison that was in %s is replaced; --out names another folder", given.out)
        print(*found.verdicts, *found.written, sep="\n")


if __name__ == "__main__":
    main()
