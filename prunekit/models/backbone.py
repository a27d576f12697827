"""ResNet-18 without its last layer: pictures -> 512 features each."""

import hashlib
import pickle
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet18_Weights, resnet18

from prunekit.errors import ArgumentError, check_choice, owned_by

FEATURES = 512
SHOWN = 300  # characters of what torch says of weights that do not fit
IMAGENET, UNTRAINED = "imagenet", "untrained"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("0", "1"))  # torchvision's names; the last in a downsampling shortcut
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, as torchvision's weights want them


class FrameEncoder(nn.Module):
    """Pictures ``(..., height, width, 3)`` uint8 RGB -> features ``(..., 512)`` float32.

    Pixels are scaled to [0, 1] and standardised with ImageNet's mean and deviation; the features are ResNet-18's
    globally pooled ones.

    Source: He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, CVPR 2016.

    Args:
        weights: ``imagenet``: torchvision's IMAGENET1K_V1, downloaded into ``cache_dir`` once; ``untrained``: as
            drawn; or a file with the state_dict of a torchvision ``resnet18``.
        cache_dir: where weights are downloaded to.
        trainable: whether the network is trained on; if not it stays in evaluation mode and gives no gradient.

    Raises:
        ArgumentError: if weights cannot be loaded or are another network's.

    Example:
        >>> encoder = FrameEncoder("untrained", cache_dir="cache", trainable=True)
        >>> encoder(torch.zeros(2, 3, 64, 64, 3, dtype=torch.uint8)).shape
        torch.Size([2, 3, 512])
    """

    _scale: Tensor
    _shift: Tensor

    def __init__(self, weights: str, cache_dir: str, trainable: bool) -> None:
        super().__init__()
        self.network = load_resnet18(weights, Path(cache_dir))
        self.trainable = trainable
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        self.register_buffer("_scale", 1 / (255 * std), persistent=False)
        self.register_buffer("_shift", mean / std, persistent=False)
        self.memory_format = torch.contiguous_format
        if not trainable:
            if weights == UNTRAINED:
                raise _refused(f"{weights}, and trainable=false: features of random weights")
            self.freeze()

    def freeze(self) -> "FrameEncoder":
        """Train it no more, batch normalisation's statistics neither."""
        self.trainable = False
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FrameEncoder":
        """Follow the module around it, unless frozen: batch normalisation then keeps its statistics."""
        return super().train(mode and self.trainable)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features of any number of pictures."""
        batch = pictures.flatten(0, -4).movedim(-1, -3)  # in memory still channels last, which arithmetic keeps
        batch = batch.to(self._scale.dtype).mul_(self._scale).sub_(self._shift)
        batch = batch.to(next(self.network.parameters()).dtype).contiguous(memory_format=self.memory_format)
        features: Tensor = self.network(batch)
        return features.float().view(*pictures.shape[:-3], -1)


class FrozenBackbone:
    """How features are computed from frames, once for all; cheap until :meth:`build` is called.

    Args:
        weights: as in :class:`FrameEncoder`.
        cache_dir: where weights are downloaded to.
        channels_last: whether images lie in memory channel by channel or, faster, pixel by pixel.
        fold_batch_norm: whether batch normalisation is folded into the convolutions before it: faster, and equal up
            to rounding.
        precision: ``fp32``, or ``bf16``: faster where the processor has it, features to about two digits.

    Raises:
        ArgumentError: if the precision is not accepted.
    """

    def __init__(
        self,
        weights: str,
        cache_dir: str,
        channels_last: bool = True,
        fold_batch_norm: bool = True,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> None:
        self.weights, self.cache_dir = weights, cache_dir
        self.channels_last, self.fold_batch_norm = channels_last, fold_batch_norm
        check_choice("precision", precision, PRECISIONS)
        self.precision = precision

    @property
    def trained(self) -> bool:
        """Whether the weights were ever trained."""
        return self.weights != UNTRAINED

    def describe(self) -> str:
        """Which weights these are, for people.

        Example:
            >>> FrozenBackbone("untrained", "cache").describe()
            'ResNet-18, untrained (random weights)'
        """
        if self.weights == IMAGENET:
            return f"ResNet-18, torchvision {ResNet18_Weights.IMAGENET1K_V1}"
        return f"ResNet-18, {Path(self.weights).name}" if self.trained else "ResNet-18, untrained (random weights)"

    def recipe(self) -> dict[str, Any]:
        """Plain values that change whenever the features do.

        Raises:
            ArgumentError: if the file of weights cannot be read.
        """
        speed = {name: getattr(self, name) for name in ("channels_last", "fold_batch_norm", "precision")}
        return {"network": "resnet18", "weights": self._weights_hash(), **speed}

    def build(self) -> FrameEncoder:
        """The encoder, frozen and fit for speed.

        Raises:
            ArgumentError: if weights cannot be loaded or are another network's.
        """
        with owned_by(self):
            encoder = FrameEncoder(self.weights, self.cache_dir, trainable=True).freeze()
        if self.fold_batch_norm:
            fold_batch_norm(encoder.network)
        encoder.network.to(PRECISIONS[self.precision])
        if self.channels_last:
            encoder.memory_format = torch.channels_last
        return encoder.to(memory_format=encoder.memory_format)

    def _weights_hash(self) -> str:
        if self.weights == IMAGENET:
            return str(ResNet18_Weights.IMAGENET1K_V1.url)  # its name holds a hash
        if self.weights == UNTRAINED:
            return f"{UNTRAINED} by torch {torch.__version__}"
        try:
            with Path(self.weights).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _refused(f"{self.weights} ({error.strerror})", self) from error


def load_resnet18(weights: str, cache_dir: Path) -> nn.Module:
    """A torchvision ResNet-18 whose last layer hands its input on.

    Args:
        weights: as in :class:`FrameEncoder`; untrained ones are always the same.
        cache_dir: where weights are downloaded to.

    Raises:
        ArgumentError: if weights cannot be loaded or are another network's.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = resnet18()
    if weights != UNTRAINED:
        try:
            network.load_state_dict(_state_dict(weights, cache_dir))
        except (URLError, TimeoutError) as error:
            raise _refused(f"{weights}, and no download ({error})") from error
        except pickle.UnpicklingError as error:
            raise _refused(f"{weights}, which is damaged or unsafe to load") from error
        except (OSError, RuntimeError, EOFError, TypeError, ValueError) as error:
            raise _refused(f"{weights} ({type(error).__name__}: {shorten(str(error), SHOWN)})") from error
    network.fc = nn.Identity()
    return network  # type: ignore[no-any-return]


def fold_batch_norm(network: nn.Module) -> None:
    """Fold each batch normalisation of a ResNet into the convolution before it, in place; evaluation mode only."""
    for module in network.modules():
        for conv_name, norm_name in PAIRS:
            conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())


def _state_dict(weights: str, cache_dir: Path) -> Any:
    if weights != IMAGENET:
        return torch.load(weights, map_location="cpu", weights_only=True)
    folder = str(cache_dir / "weights")
    return ResNet18_Weights.IMAGENET1K_V1.get_state_dict(model_dir=folder, check_hash=True, weights_only=True)


def _refused(got: str, owner: object = None) -> ArgumentError:
    accepted = "imagenet (with a network, once), untrained, or a file with a torchvision resnet18's state_dict"
    return ArgumentError("weights", got, accepted, owner)
