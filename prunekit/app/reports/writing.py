"""How reports are written: whole or not at all, and the same content as the same file."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from prunekit.files import write_whole


def write_text(path: Path, content: str) -> Path:
    """Write a text; the path."""
    write_whole(path, lambda file: file.write(content.encode()))
    return path


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """As PNG and as SVG; the same figure is the same file."""
    paths = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    with mpl.rc_context({"svg.hashsalt": "prunekit"}):
        write_whole(paths[0], lambda file: figure.savefig(file, format="png"))
        write_whole(paths[1], lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))
    return paths
