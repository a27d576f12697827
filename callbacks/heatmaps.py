"""Pictures of what each neuron keeps, at every pruning event."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from matplotlib.figure import Figure
from torch import Tensor

from prunekit.callbacks.events import PruningEvent, PruningObserver
from prunekit.callbacks.images import folder_of, log_png, show_png
from prunekit.callbacks.pruning import pruning_callbacks
from prunekit.callbacks.region_mean_mask import RegionMeanMask
from prunekit.errors import check_count, owned_by
from prunekit.figures.neurons import draw_kept, draw_rates, draw_regions, draw_weights, side_by_side
from prunekit.masks import find_parameter
from prunekit.regions.grouping import check_holds_images, check_image_shape
from prunekit.regions.segmentation import Connected, Segmentation


class Heatmaps(PruningObserver):
    """Draws a layer's weight images, their regions, what was removed, and each neuron's pruning rate.

    PNG files in ``figures/`` and images in TensorBoard; the step is the number of epochs done.

    Args:
        parameter: a weight whose rows are images.
        image_shape: ``[height, width]`` or ``[channels, height, width]`` of the input images; channels are drawn side
            by side.
        segmentation: of the regions drawn where weights go one by one; ``Connected`` by default.
        max_neurons: how many neurons are drawn at most, the first ones.
    """

    def __init__(
        self,
        parameter: str,
        image_shape: Sequence[int],
        segmentation: Segmentation | None = None,
        max_neurons: int = 100,
    ) -> None:
        self.parameter = parameter
        self.image_shape = check_image_shape(image_shape)
        self.segmentation = segmentation or Connected()
        self.max_neurons = check_count("max_neurons", max_neurons, least=1)
        self._shown: list[tuple[str, str, int]] = []

    def state_dict(self) -> dict[str, Any]:
        """Which pictures were drawn."""
        return {"shown": self._shown}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up a checkpoint's list of pictures."""
        self._shown = state_dict["shown"]

    def check(self, module: pl.LightningModule) -> None:
        """Refuse a parameter that is missing or holds no images of that shape."""
        with owned_by(self):
            check_holds_images(module, self.parameter, self.image_shape)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse a module that does not fit."""
        self.check(pl_module)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show again in TensorBoard what was drawn before the checkpoint."""
        for file, tag, step in self._shown:
            if trainer.is_global_zero and (path := self._folder(trainer) / file).is_file():
                show_png(trainer, path, tag, step)

    def before_pruning(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Draw the dense weights, once."""
        if not self._shown and trainer.is_global_zero:
            weights = self._weights(module)[: self.max_neurons]
            title = f"Weights before any pruning (epoch {trainer.current_epoch}): {self.parameter}"
            figure = draw_weights(weights, np.ones_like(weights, dtype=bool), title)
            self._show(trainer, figure, "dense", "weights", trainer.current_epoch)

    def after_pruning(self, trainer: pl.Trainer, module: pl.LightningModule, event: PruningEvent) -> None:
        """Draw what the event left, if it touched the layer."""
        if self.parameter not in event.after or not trainer.is_global_zero:
            return
        before, kept = self._images(event.before[self.parameter]), self._images(event.after[self.parameter])
        when = f"after {event.name}, round {event.round} (epoch {event.epoch})"
        title = f"{when}: {event.after.sparsity(self.parameter):.1%} of {self.parameter} removed"
        regions = self._region_callback(trainer)
        base = self._images(regions.base[self.parameter]) if regions is not None and regions.base else None
        weights = self._weights(module)
        # Regions that went whole are shown as they were; weights that went one by one leave new regions.
        # Of two such callbacks only the one of this layer has changed it.
        if regions is not None and event.name == regions.name and (before != kept).any():
            labels = self._images(regions.labels)
        else:
            labels = self._labels(module, event.after[self.parameter])
        first = slice(self.max_neurons)
        figures = {
            "weights": draw_weights(weights[first], kept[first], f"Weights {title}"),
            "regions": draw_regions(labels[first], kept[first], f"Regions of weights {title}"),
            "kept": draw_kept(kept[first], before[first], f"Kept and removed weights {title}"),
            "rates": draw_rates(kept, base, f"How much each neuron lost, {title}"),
        }
        for kind, figure in figures.items():
            self._show(trainer, figure, f"{event.name}-round{event.round}", kind, event.epoch)

    def _region_callback(self, trainer: pl.Trainer) -> RegionMeanMask | None:
        """The callback that prunes this layer's regions, if there is one."""
        found = (c for c in pruning_callbacks(trainer) if isinstance(c, RegionMeanMask))
        return next((c for c in found if c.parameter == self.parameter), None)

    def _images(self, rows: Tensor) -> Any:
        """As they are drawn, ``(N, height, width)``."""
        return side_by_side(self._with_channels(rows))

    def _with_channels(self, rows: Tensor) -> Any:
        images = rows.detach().cpu().reshape(-1, *self.image_shape)
        return images.float().numpy() if images.is_floating_point() else images.numpy()

    def _labels(self, module: pl.LightningModule, kept: Tensor) -> Any:
        """The regions of the weights as they are now."""
        weights = find_parameter(module, self.parameter)
        return side_by_side(self.segmentation(self._with_channels(weights), self._with_channels(kept)))

    def _weights(self, module: pl.LightningModule) -> Any:
        return self._images(find_parameter(module, self.parameter))

    def _show(self, trainer: pl.Trainer, figure: Figure, event: str, kind: str, epoch: int) -> None:
        file, tag = f"epoch{epoch:03d}-{event}-{kind}.png", f"{kind}/{event.split('-round', maxsplit=1)[0]}"
        log_png(trainer, figure, self._folder(trainer) / file, tag, epoch)
        self._shown.append((file, tag, epoch))

    @staticmethod
    def _folder(trainer: pl.Trainer) -> Path:
        return folder_of(trainer) / "figures"
