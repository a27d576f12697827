"""Our networks without their training: what an exported network is run by."""

from torch import Tensor, nn

READOUTS = ("last", "mean")


class RecognizerNetwork(nn.Module):
    """A recurrent layer that reads a clip's features frame by frame, and a head that makes logits of what it says.

    Args:
        lstm: features ``(N, T, inputs)`` -> outputs ``(N, T, units)`` and its final states.
        head: ``(..., units)`` -> logits ``(..., classes)``.
        readout: what the head is applied to: the ``last`` step's output, or the ``mean`` over all steps.
        backbone: a network from frames to features; None if the inputs are features.
    """

    def __init__(
        self, lstm: nn.Module, head: nn.Module, readout: str = "last", backbone: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.backbone, self.lstm, self.head, self.readout = backbone, lstm, head, readout

    def states(self, x: Tensor) -> Tensor:
        """The recurrent layer's outputs h, ``(N, T, units)`` float, for features ``(N, T, inputs)`` float.

        With a backbone the inputs are frames ``(N, T, height, width, 3)`` uint8.
        """
        h: Tensor = self.lstm(x if self.backbone is None else self.backbone(x))[0]
        return h

    def read(self, h: Tensor) -> Tensor:
        """Logits, ``(N, classes)`` float, from outputs ``(N, T, units)``."""
        logits: Tensor = self.head(h[:, -1] if self.readout == "last" else h.mean(dim=1))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(N, classes)`` float, of clips."""
        return self.read(self.states(x))

    def steps(self, x: Tensor) -> Tensor:
        """Logits, ``(N, T, classes)`` float: the head applied at every step, whatever the readout."""
        logits: Tensor = self.head(self.states(x))
        return logits


class MlpNetwork(nn.Module):
    """Fully connected layers over an image's pixels.

    Args:
        layers: ``(N, pixels)`` -> logits ``(N, classes)``.
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        """Logits, ``(N, classes)`` float, of images ``(N, ...)`` float."""
        logits: Tensor = self.layers(x.flatten(1))
        return logits
