"""Masks: which entries of which parameters are kept, and what is in place of the others.

A masked parameter stays an ordinary ``nn.Parameter`` under its ordinary name, with exact zeros where entries
were removed, or with what a repair holds them at. Nothing here knows a criterion, a network or a trainer.
"""

import difflib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

import torch
from torch import Tensor, nn


class Mask(Mapping[str, Tensor]):
    """An immutable mapping of parameter name -> bool tensor, True = kept; and what removed entries are held at.

    Tensors live on the CPU whatever the model's device: a mask is made at rare events, saved, compared and
    hashed there, and :class:`HeldMask` brings it to the device once.

    Args:
        kept: parameter name -> bool tensor.
        held: parameter name -> tensor of its shape: what removed entries are held at, where that is not 0.

    Attributes:
        held: the same, 0 where entries are kept; without parameters whose removed entries are all held at 0.

    Raises:
        TypeError: if a name is not a string or a value not a bool tensor.
        ValueError: if something is held of a parameter that the mask does not name, or in another shape.

    Example:
        >>> mask = Mask({"weight": torch.tensor([[True, False], [True, True]])})
        >>> mask.sparsity("weight"), mask.removed()
        (0.25, 1)
    """

    def __init__(self, kept: Mapping[str, Tensor], held: Mapping[str, Tensor] | None = None) -> None:
        for name, tensor in kept.items():
            if not isinstance(name, str) or not name:
                raise TypeError(f"a parameter name is a non-empty string, got {name!r}")
            if not isinstance(tensor, Tensor) or tensor.dtype != torch.bool:
                raise TypeError(f"{name}: a mask is a bool tensor, got {getattr(tensor, 'dtype', type(tensor))}")
        self._kept = {name: tensor.detach().cpu().clone() for name, tensor in kept.items()}
        self.held: dict[str, Tensor] = {}
        for name, value in (held or {}).items():
            if name not in self._kept or value.shape != self._kept[name].shape:
                raise ValueError(f"{name}: held at a value of shape {tuple(value.shape)}, and no mask of that shape")
            value = value.detach().cpu().masked_fill(self._kept[name], 0.0)  # noqa: PLW2901
            if value.any():
                self.held[name] = value

    @classmethod
    def full(cls, module: nn.Module, names: Iterable[str]) -> Self:
        """The mask of ``module``'s parameters ``names`` that keeps everything.

        Raises:
            KeyError: if a name is not a parameter of ``module``; the message holds the nearest names.

        Example:
            >>> Mask.full(nn.Linear(2, 1), ["weight"])["weight"]
            tensor([[True, True]])
        """
        return cls({name: torch.ones(find_parameter(module, name).shape, dtype=torch.bool) for name in names})

    def __getitem__(self, name: str) -> Tensor:
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        rows = ", ".join(f"{name}: {self.sparsity(name):.4f} removed" for name in self)
        return f"Mask({rows})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        pairs = ((self, other), (self.held, other.held))
        return all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: "Mask") -> "Mask":
        """What both keep; a parameter that only one of them names is as that one has it.

        An entry that both remove is held at 0 if either holds it there, else at what the second says.

        Example:
            >>> a = Mask({"w": torch.tensor([True, False, True])})
            >>> (a & Mask({"w": torch.tensor([True, True, False])}))["w"]
            tensor([ True, False, False])
        """
        for name in self.keys() & other.keys():
            if self[name].shape != other[name].shape:
                raise ValueError(f"{name}: {tuple(self[name].shape)} against {tuple(other[name].shape)}")
        shared = {name: self[name] & other[name] for name in self if name in other}
        held = {**self.held, **other.held}
        for name in shared.keys() & held.keys():
            one, two = (mask.held.get(name, torch.zeros(())) for mask in (self, other))
            zero = (~self[name] & (one == 0)) | (~other[name] & (two == 0))
            held[name] = torch.where(zero, 0.0, torch.where(two != 0, two, one))
        return Mask({**self, **other, **shared}, held)

    def only(self, names: Iterable[str]) -> "Mask":
        """The mask of some parameters, those that it names.

        Example:
            >>> list(Mask({"a": torch.tensor([True]), "b": torch.tensor([True])}).only(["b", "c"]))
            ['b']
        """
        own = [name for name in names if name in self]
        return Mask({name: self[name] for name in own}, {name: self.held[name] for name in own if name in self.held})

    def removed(self, name: str | None = None) -> int:
        """How many entries are removed, of one parameter or of all."""
        # Counted a hundred times faster than the mask's complement is summed.
        return sum(self[n].numel() - int(self[n].count_nonzero()) for n in ([name] if name else self))

    def sparsity(self, name: str | None = None) -> float:
        """The removed share of one parameter, or of all that the mask names; 0 for an empty mask."""
        total = sum(self[n].numel() for n in ([name] if name else self))
        return self.removed(name) / total if total else 0.0

    def digest(self) -> str:
        """A SHA-256 over names, shapes, bits and what is held: equal exactly when two masks are equal.

        Example:
            >>> a = Mask({"w": torch.tensor([True, False])})
            >>> a.digest() == Mask({"w": torch.tensor([True, True])}).digest()
            False
        """
        sha = hashlib.sha256()
        for name in sorted(self):
            sha.update(f"{name}{tuple(self[name].shape)}".encode())
            sha.update(self[name].contiguous().numpy().tobytes())
            if name in self.held:
                sha.update(self.held[name].double().contiguous().numpy().tobytes())
        return sha.hexdigest()

    def check(self, module: nn.Module) -> None:
        """Refuse a module that this mask does not fit.

        Raises:
            KeyError: if ``module`` lacks a parameter that the mask names.
            ValueError: if a shape differs.
        """
        for name, kept in self.items():
            shape = find_parameter(module, name).shape
            if shape != kept.shape:
                raise ValueError(f"{name} has shape {tuple(shape)}, its mask {tuple(kept.shape)}")

    @torch.no_grad()
    def apply(self, module: nn.Module) -> None:
        """Set every removed entry of ``module`` to exactly what it is held at, whatever it was (NaN, infinities too).

        Example:
            >>> layer = nn.Linear(2, 1)
            >>> Mask({"weight": torch.tensor([[True, False]])}).apply(layer)
            >>> layer.weight[0, 1].item()
            0.0
        """
        self.check(module)
        for name, kept in self.items():
            parameter = find_parameter(module, name)
            value = self.held.get(name, torch.zeros(())).to(parameter.device, parameter.dtype)
            parameter.copy_(torch.where(kept.to(parameter.device), parameter, value))


def find_parameter(module: nn.Module, name: str) -> nn.Parameter:
    """The parameter of ``module`` called ``name``.

    Raises:
        KeyError: if there is none; the message holds the nearest names.

    Example:
        >>> find_parameter(nn.Linear(2, 1), "wieght")
        Traceback (most recent call last):
        ...
        KeyError: "no parameter 'wieght'; nearest: weight"
    """
    try:
        return module.get_parameter(name)
    except AttributeError:
        names = [known for known, _ in module.named_parameters()]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:5]
        raise KeyError(f"no parameter {name!r}; nearest: {', '.join(near)}") from None


def all_weights(module: nn.Module) -> list[str]:
    """The names of all weights of ``module``: its parameters with two or more dimensions (biases are not pruned).

    Example:
        >>> all_weights(nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1)))
        ['0.weight', '1.weight']
    """
    return [name for name, parameter in module.named_parameters() if parameter.dim() >= 2]


def overall_sparsity(module: nn.Module, mask: Mask) -> float:
    """Removed weights / all weights of ``module``, whether the mask names them or not; biases count on neither side.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2))
        >>> overall_sparsity(net, Mask({"0.weight": torch.tensor([[True, False]])}))
        0.25
    """
    weights = all_weights(module)
    removed = sum(mask.removed(name) for name in weights if name in mask)
    return removed / sum(find_parameter(module, name).numel() for name in weights)
