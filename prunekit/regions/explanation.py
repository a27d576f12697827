"""What a network went by: single decisions, classes in the mean, and whether the evidence can be believed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prunekit.regions.evidence import Chain, Regions, deeplift, slopes
from prunekit.regions.faithfulness import (
    Curves,
    faithfulness,
    gradient_times_input,
    has_captum,
    integrated_gradients,
)

BATCH = 1000  # images at once
CONTROLS = ("brightness", "random")


class Subject(NamedTuple):
    """A network to be explained.

    Attributes:
        chain: the network.
        labels: ``(neurons, [channels,] H, W)`` int64, the regions of its first layer.
    """

    chain: Chain
    labels: NDArray[np.int64]

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self.labels.shape[-2], self.labels.shape[-1]

    def predict(self, x: Tensor) -> Tensor:
        """The classes of the highest logits, ``(n,)`` int64, of images ``(n, ...)``."""
        with torch.no_grad():
            return torch.cat([self.chain.logits(batch.flatten(1)).argmax(1) for batch in batches(x)])

    def added_up(self, evidence: Tensor) -> Tensor:
        """Evidence of pixels, ``(n, [channels *] H * W)``, as ``(n, H, W)``: added up over channels."""
        return evidence.reshape(len(evidence), -1, *self.plane).sum(1)


class Region(NamedTuple):
    """A region of a neuron and what it gives.

    Attributes:
        neuron: counted from 0.
        evidence: for the predicted class.
        pixels: ``(H, W)`` bool.
    """

    neuron: int
    evidence: float
    pixels: NDArray[np.bool_]


class Decision(NamedTuple):
    """An image and what the network made of it.

    Attributes:
        image: ``(H, W)`` or ``(H, W, 3)``, in [0, 1].
        true: its class.
        predicted: the class with the highest logit.
        other: the class that it is held against: the one with the second highest, or the true one.
        probabilities: of these two.
        regions: those with the most evidence for the predicted class, the first the most.
        evidence: ``(H, W)`` each, for the predicted class and for the other.
    """

    image: NDArray[np.floating]
    true: int
    predicted: int
    other: int
    probabilities: tuple[float, float]
    regions: Sequence[Region]
    evidence: tuple[NDArray[np.floating], NDArray[np.floating]]


def explain_decisions(
    subject: Subject, x: Tensor, y: Tensor, most: int, mistakes: bool = False
) -> tuple[dict[str, Tensor], list[Decision]]:
    """Explain decisions one by one.

    Args:
        subject: the network.
        x: ``(n, [channels,] H, W)`` real, a few images.
        y: ``(n,)`` int64, their true classes.
        most: regions named for each.
        mistakes: whether the prediction is held against the true class, and not against the runner-up.

    Returns:
        All that is known of them, by name: ``labels``, ``region_evidence (n, R, classes)``, ``remainder (classes,)``,
        ``logits (n, classes)``, ``predicted`` and ``other (n,)``, and the evidence of pixels for these two,
        ``(n, H, W)``. And the same as it is shown.
    """
    flat = x.flatten(1)
    found = slopes(subject.chain, flat)
    cut = Regions(subject.labels, subject.chain.linears[0])
    regions = torch.from_numpy(cut.evidence(found, flat))
    best, second = found.logits.topk(2, dim=1).indices.T
    second = y if mistakes else second
    maps = [subject.added_up(deeplift(subject.chain, flat, classes)) for classes in (best, second)]
    arrays = {
        "labels": torch.from_numpy(subject.labels.astype(np.int32)),
        "region_evidence": regions,
        "remainder": found.remainder,
        "logits": found.logits,
        "predicted": best,
        "other": second,
        "evidence_for_predicted": maps[0],
        "evidence_for_other": maps[1],
    }
    shares, neurons, decisions = found.logits.softmax(1), cut.neurons, []
    for i, (first, other) in enumerate(zip(best.tolist(), second.tolist(), strict=True)):
        own, top = regions[i, :, first], []
        for region in own.argsort(descending=True)[:most].tolist():
            pixels = (subject.labels[neurons[region]] == region + 1).reshape(-1, *subject.plane).any(0)
            top.append(Region(int(neurons[region]), float(own[region]), pixels))
        probabilities = (float(shares[i, first]), float(shares[i, other]))
        evidence = (maps[0][i].numpy(), maps[1][i].numpy())
        decisions.append(Decision(picture(x[i]), int(y[i]), first, other, probabilities, top, evidence))
    return arrays, decisions


def explain_classes(subject: Subject, x: Tensor, y: Tensor) -> Iterator[tuple[NDArray[np.floating], Tensor]]:
    """For each class that has images, in ascending order, their mean and the mean evidence for it over them.

    Args:
        subject: the network.
        x: ``(n, [channels,] H, W)`` real.
        y: ``(n,)`` int64.

    Yields:
        A picture, and ``(H, W)`` float64.
    """
    for label in sorted(set(y.tolist())):
        own, total = x[y == label], torch.zeros(subject.plane, dtype=torch.float64)
        for batch in batches(own.flatten(1)):
            total += subject.added_up(deeplift(subject.chain, batch, torch.full((len(batch),), label))).sum(0)
        yield picture(own.mean(0)), total / len(own)


def compare_methods(subject: Subject, x: Tensor, y: Tensor) -> Iterator[tuple[str, Curves]]:
    """Deletion and insertion curves by evidence, by its rivals and by controls that know no network.

    Each method explains the centred logit of the class that the network predicts. ``DeepLIFT by region`` has each
    region's evidence spread evenly over what it sees, ``DeepLIFT`` as it comes from the pixels. Integrated
    gradients are there if captum is.

    Args:
        subject: the network.
        x: ``(n, [channels,] H, W)`` real.
        y: ``(n,)`` int64, the true classes, which accuracy goes by.
    """
    cut = Regions(subject.labels, subject.chain.linears[0])
    generator = torch.Generator().manual_seed(0)
    logits = subject.chain.logits
    methods: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "DeepLIFT by region": lambda batch, classes: cut.spread(
            cut.evidence(slopes(subject.chain, batch, classes), batch)[:, :, 0], batch
        ),
        "DeepLIFT": lambda batch, classes: deeplift(subject.chain, batch, classes),
        "gradient x input": lambda batch, classes: gradient_times_input(logits, batch, classes),
    }
    if has_captum():
        methods["integrated gradients"] = lambda batch, classes: integrated_gradients(logits, batch, classes)
    methods["brightness"] = lambda batch, _: batch
    methods["random"] = lambda batch, _: torch.rand(batch.shape, generator=generator)
    flat = x.flatten(1)
    predicted = batches(subject.predict(x))
    pixels = x.reshape(len(x), -1, subject.plane[0] * subject.plane[1])
    for name, method in methods.items():
        evidence = torch.cat([method(*both) for both in zip(batches(flat), predicted, strict=True)])
        order = subject.added_up(evidence).flatten(1)
        yield name, faithfulness(lambda shown: logits(shown.flatten(1)), pixels, y, order)


def batches(x: Tensor) -> list[Tensor]:
    """``x`` in parts of at most a thousand rows."""
    return list(torch.split(x, BATCH))


def picture(x: Tensor) -> Any:
    """An image as it is drawn: ``(H, W)`` or ``(H, W, 3)`` in [0, 1]; of channels that are not three, their mean.

    Example:
        >>> picture(torch.zeros(3, 4, 5)).shape, picture(torch.zeros(2, 4, 5)).shape
        ((4, 5, 3), (4, 5))
    """
    if x.dim() == 3:
        x = x.permute(1, 2, 0) if len(x) == 3 else x.mean(0)
    return x.clamp(0, 1).numpy()
