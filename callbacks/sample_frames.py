"""What the recogniser is shown: frames of a clip of each class."""

import pytorch_lightning as pl

from prunekit.callbacks.events import PruningObserver
from prunekit.callbacks.images import folder_of, log_png
from prunekit.data_modules.action_clips import ActionClips
from prunekit.errors import ArgumentError, check_count
from prunekit.figures.frames import draw_frames


class SampleFrames(PruningObserver):
    """Draws frames of the first training clip of each class, as they were decoded, as ``figures/frames.png``.

    Args:
        classes: the first classes are shown, up to so many.
        columns: frames of each clip shown.
    """

    def __init__(self, classes: int = 12, columns: int = 5) -> None:
        self.classes = check_count("classes", classes, least=1)
        self.columns = check_count("columns", columns, least=1)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Decode and draw."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, ActionClips):
            got = f"with {type(data).__name__}"
            raise ArgumentError("", got, "data made of clips; or drop it from the callbacks", self)
        if trainer.is_global_zero:
            figure = draw_frames(data.sample_frames(self.classes, self.columns))
            log_png(trainer, figure, folder_of(trainer) / "figures" / "frames.png", "frames", 0)
