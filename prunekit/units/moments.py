"""What least squares needs to know of a layer's outputs: counts, sums and sums of products, additive over clips."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prunekit.gpu import float64

SUMS, PARTS = ("count", "total", "products"), ("read", "fed_back")


@dataclass(frozen=True)
class Moments:
    """Sums over samples of some numbers x.

    Attributes:
        count: ``()`` float64, the number of samples.
        total: ``(n,)`` float64, the sum of x.
        products: ``(n, n)`` float64, the sum of x x^T.
    """

    count: Tensor
    total: Tensor
    products: Tensor

    @classmethod
    def of(cls, x: Tensor, zeros: int = 0) -> "Moments":
        """The moments of ``(..., n)`` float samples, and of ``zeros`` more whose numbers are all 0.

        Example:
            >>> Moments.of(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).products
            tensor([[10., 14.],
                    [14., 20.]], dtype=torch.float64)
        """
        rows = float64(x.reshape(-1, x.shape[-1]))  # products of float32 would differ from batch size to batch size
        return cls(rows.new_tensor(float(len(rows) + zeros)), rows.sum(0), rows.T @ rows)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Moments":
        """The same function of all three."""
        return Moments(change(self.count), change(self.total), change(self.products))

    def mean(self) -> Tensor:
        """``(n,)`` float64."""
        return self.total / self.count

    def covariance(self, about_zero: bool = False) -> Tensor:
        """``(n, n)`` float64: mean of (x - mean)(x - mean)^T, or of x x^T.

        Example:
            >>> Moments.of(torch.tensor([[1.0], [3.0]])).covariance().item()
            1.0
        """
        raw = self.products / self.count
        return raw if about_zero else raw - torch.outer(self.mean(), self.mean())


@dataclass(frozen=True)
class OutputMoments:
    """Moments of a recurrent layer's outputs h_0 .. h_T-1 over clips.

    Attributes:
        read: of all of them: what the next layer may read.
        fed_back: of h_-1 .. h_T-2, where h_-1 = 0: what the layer itself reads.
    """

    read: Moments
    fed_back: Moments

    @classmethod
    def of(cls, h: Tensor) -> "OutputMoments":
        """The moments of outputs ``(clips, T, units)``."""
        earlier, last = Moments.of(h[:, :-1], zeros=len(h)), Moments.of(h[:, -1])
        without_zeros = Moments(earlier.count - len(h), earlier.total, earlier.products)
        return cls(without_zeros + last, earlier)

    def __add__(self, other: "OutputMoments") -> "OutputMoments":
        return OutputMoments(self.read + other.read, self.fed_back + other.fed_back)

    @staticmethod
    def content_of(parts: "Sequence[OutputMoments]") -> dict[str, Tensor]:
        """All sums of several layers by name."""
        return {
            f"{number}.{part}.{name}": getattr(getattr(each, part), name)
            for number, each in enumerate(parts)
            for part in PARTS
            for name in SUMS
        }

    @classmethod
    def of_parts(cls, content: Mapping[str, Tensor]) -> "list[OutputMoments]":
        """What :meth:`content_of` gave."""
        return [
            cls(*(Moments(*(content[f"{number}.{part}.{name}"] for name in SUMS)) for part in PARTS))
            for number in range(len(content) // (len(PARTS) * len(SUMS)))
        ]

    def map(self, change: Callable[[Tensor], Tensor]) -> "OutputMoments":
        """The same function of all sums."""
        return OutputMoments(self.read.map(change), self.fed_back.map(change))
