"""The pictures of a sweep's jobs as one run of TensorBoard.

Beyond some forty runs TensorBoard shows none until they are ticked; a sweep's own folder holds a single one, in which
each job's last pictures stand under the job's name.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from prunekit.app.jobs import Job
from prunekit.callbacks.images import add_png

FOLDER = "pictures"
MOST = 600  # pictures of all jobs; more would take TensorBoard long to open
EVENT = re.compile(r"^epoch\d+-|-round\d+")


def sweep_pictures(jobs: Iterable[Job], sweep: Path) -> int:
    """Show the pictures that a sweep's finished jobs have left in their folders.

    Args:
        jobs: of the sweep.
        sweep: its folder, in which a run of TensorBoard is written anew.

    Returns:
        How many pictures are shown.
    """
    found = {(kind, run.name): path for run in _folders(jobs) for kind, path in last_pictures(run).items()}
    for old in (sweep / FOLDER).glob("events.out.tfevents.*"):
        old.unlink()
    if not found:
        return 0
    with SummaryWriter(str(sweep / FOLDER)) as writer:
        for (kind, name), path in list(found.items())[:MOST]:
            add_png(writer, path, f"{kind}/{name}", 0)
    return min(len(found), MOST)


def last_pictures(run: Path) -> dict[str, Path]:
    """A run's pictures by what they show, of those drawn again at later events the last.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as run:
        ...     for name in ("epoch002-l2_mask-round1-rates", "epoch003-l2_mask-round2-rates", "curves"):
        ...         Path(run, "figures").mkdir(exist_ok=True)
        ...         Path(run, "figures", f"{name}.png").touch()
        ...     {kind: path.name for kind, path in last_pictures(Path(run)).items()}
        {'curves': 'curves.png', 'l2_mask-rates': 'epoch003-l2_mask-round2-rates.png'}
    """
    return {EVENT.sub("", path.stem): path for path in sorted((run / "figures").glob("*.png"))}


def _folders(jobs: Iterable[Job]) -> list[Path]:
    return [Path(place) for place in dict.fromkeys(job["run"] for job in jobs if job["state"] == "finished") if place]
