"""One self-contained page to send: nothing is loaded from elsewhere, and nothing that a run's files say is executed."""

import base64
import io
import logging
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image

from prunekit.digests import digest
from prunekit.errors import ArgumentError

WIDEST, MOST_PIXELS, QUALITY = 1_600, 40_000_000, 85
MOST_BYTES = 1_800_000  # of all pictures, as they are embedded: with the scripts a page stays below 5 MB
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
td, th { border: 1px solid #ddd; padding: 3px 8px; text-align: left; white-space: nowrap; }
th { background: #f4f4f4; } pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; font-size: 13px; }
img { max-width: 100%; border: 1px solid #eee; } figcaption { color: #555; font-size: 13px; }
"""
log = logging.getLogger("prunekit")


class Plot(NamedTuple):
    """A drawing of Bokeh's under a heading."""

    title: str
    model: Any


def bokeh_there() -> None:
    """Refuse to begin without the library that draws.

    Raises:
        ArgumentError: if it is not installed.
    """
    try:
        import bokeh  # noqa: F401, PLC0415
    except ImportError:
        raise ArgumentError("--html", "no Bokeh here", "pip install 'prunekit[page]'") from None


def make_page(title: str, parts: Iterable[str], plots: Sequence[Plot]) -> str:
    """A page as HTML.

    Args:
        title: plain text.
        parts: HTML, in which plain text has been escaped.
        plots: which are drawn behind the first part.
    """
    from bokeh.embed import components  # noqa: PLC0415
    from bokeh.resources import Resources  # noqa: PLC0415

    script, drawn = components([plot.model for plot in plots]) if plots else ("", [])
    body = [*(f"<h2>{escape(plot.title)}</h2>\n{place}" for plot, place in zip(plots, drawn, strict=True))]
    first, *rest = parts
    # Only scripts with this word run: ours. A link or a picture in somebody's config cannot bring one.
    nonce = digest([title, first, *rest, script])
    there = Resources(mode="inline", log_level="error", components=["bokeh", "bokeh-widgets", "bokeh-tables"])
    scripts = [*there.js_raw, _inner(script)] if plots else []
    rules = f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data: blob:"
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{rules}">',
            '<link rel="icon" href="data:,">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            first,
            *body,
            *rest,
            *(f'<script nonce="{nonce}">{each}</script>' for each in scripts),
            "</body></html>\n",
        ]
    )


def _inner(script: str) -> str:
    """What is between the tags of a script."""
    return script.partition(">")[2].rpartition("</script>")[0]


def from_lines(lines: Iterable[str]) -> str:
    """Lines of a report, its tables, headings and lists, as HTML.

    Example:
        >>> from_lines(["## A", "", "| a | <b> |", "| --- | --- |", "| 1 | 2 |", "", "- one", "done"]).splitlines()[1]
        '<table><tr><th>a</th><th>&lt;b&gt;</th></tr>'
    """
    made: list[str] = []
    table = False
    for line in lines:
        if line.startswith(("| ---", "|--")):  # between a table's head and its rows
            continue
        if line.startswith("| "):
            cells = [escape(cell.strip()) for cell in line.strip("|").split(" | ")]
            kind = "td" if table else "th"
            made.append(f"{'' if table else '<table>'}<tr>{''.join(f'<{kind}>{cell}</{kind}>' for cell in cells)}</tr>")
            table = True
            continue
        if table:
            made.append("</table>")
            table = False
        marks = len(line) - len(line.lstrip("#"))
        text = escape(line.lstrip("#").strip())
        if marks and text:
            made.append(f"<h{min(marks, 6)}>{text}</h{min(marks, 6)}>")
        elif line.lstrip().startswith("- "):
            made.append(f"<div>&bull; {text.removeprefix('- ')}</div>")
        elif text and not line.startswith(("![", "# ")):
            made.append(f"<p>{text.replace('**', '')}</p>")
    return "\n".join([*made, *(["</table>"] if table else [])])


def listing(values: Mapping[str, Any]) -> str:
    """Names and values as a table of two columns."""
    rows = (f"<tr><th>{escape(str(key))}</th><td>{escape(str(value))}</td></tr>" for key, value in values.items())
    return f"<table>{''.join(rows)}</table>"


def folded(title: str, text: str) -> str:
    """Text that is shown when its title is clicked."""
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def pictures(paths: Iterable[Path]) -> list[str]:
    """Pictures as part of a page, as many as it has room for; what is left out is named there."""
    made, left = [], []
    room = MOST_BYTES
    for path in paths:
        try:
            content = _webp(path)
        except Exception as error:  # whatever a damaged picture makes of the library
            log.warning("left out of the page: %s (%s: %s)", path, type(error).__name__, error)
            left.append(f"{path.name} (not readable)")
            continue
        if len(content) > room:
            left.append(path.name)
            continue
        room -= len(content)
        name = escape(path.stem.replace("_", " "))
        made.append(f'<figure><img alt="{name}" src="{content}"><figcaption>{name}</figcaption></figure>')
    head = ["<h2>Pictures</h2>"] if made or left else []
    return [*head, *made, *([f"<p>Left out, for want of room: {escape(', '.join(left))}.</p>"] if left else [])]


def _webp(path: Path) -> str:
    """A picture as a URI, smaller than it lies on disk."""
    with PIL.Image.open(path, formats=["PNG"]) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels")
        shown = image.convert("RGB")
    if shown.width > WIDEST:
        shown = shown.resize((WIDEST, round(shown.height * WIDEST / shown.width)))
    content = io.BytesIO()
    shown.save(content, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
