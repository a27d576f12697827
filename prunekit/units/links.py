"""Which layer reads which, as far as names and ``nn.Sequential`` tell."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

# What does to each number the same, whichever it is, and has no weights.
ELEMENTWISE = (
    nn.Identity, nn.Dropout, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid,
    nn.Tanh, nn.Softplus, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid,
)  # fmt: skip


@dataclass(frozen=True)
class Link:
    """Which layer reads another's outputs.

    Attributes:
        source: name of an ``nn.Linear``, of an ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN``, or of their cells.
        reader: name of one of these. If no more is said, each of its inputs is one of the source's outputs.
        between: names of elementwise modules, in order. Picking a step or averaging over steps is no part of a link.
        part: layer and direction of the source whose units are read, where it is not the whole of the last layer.
        column: of the reader's inputs the one that is the part's first unit; the others follow.
    """

    source: str
    reader: str
    between: tuple[str, ...] = ()
    part: tuple[int, int] | None = None
    column: int = 0


def sequential_links(module: nn.Module) -> list[Link]:
    """The links between linear layers that ``nn.Sequential`` states, with at most elementwise modules between.

    Example:
        >>> sequential_links(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)))
        [Link(source='0', reader='2', between=('1',), part=None, column=0)]
    """
    links: list[Link] = []
    inner: set[nn.Module] = set()
    for name, part in module.named_modules():
        if _is_sequence(part) and part not in inner:
            inner.update(part.modules())
            links += _links_of(_leaves(name, part))
    return links


def _links_of(leaves: list[tuple[str, nn.Module]]) -> list[Link]:
    links = []
    source: str | None = None
    between: list[str] = []
    for name, layer in leaves:
        if type(layer) is nn.Linear:
            if source is not None:
                links.append(Link(source, name, tuple(between)))
            source, between = name, []
        elif isinstance(layer, ELEMENTWISE):
            between.append(name)
        else:
            source = None
    return links


def recurrent_link(module: nn.Module, source: str, head: str) -> Link:
    """The link from a recurrent layer to the first linear layer of the part that makes logits of its outputs.

    Args:
        module: holds both.
        source: name of the recurrent layer.
        head: name of an ``nn.Linear``, or of an ``nn.Sequential`` that begins with one or with elementwise modules.

    Raises:
        ValueError: if the head begins otherwise.

    Example:
        >>> net = nn.ModuleDict({"memory": nn.GRU(2, 3), "say": nn.Sequential(nn.ReLU(), nn.Linear(3, 1))})
        >>> recurrent_link(net, "memory", "say")
        Link(source='memory', reader='say.1', between=('say.0',), part=None, column=0)
    """
    between: list[str] = []
    for name, layer in _leaves(head, module.get_submodule(head)):
        if type(layer) is nn.Linear:
            return Link(source, name, tuple(between))
        if not isinstance(layer, ELEMENTWISE):
            break
        between.append(name)
    raise ValueError(f"{head} does not begin with an nn.Linear, so what reads {source} is not known")


def network_links(module: nn.Module, recurrent: Iterable[tuple[str, str]]) -> list[Link]:
    """The links from recurrent layers to what reads them, and those that ``nn.Sequential`` states.

    Args:
        module: holds all of them.
        recurrent: names of a recurrent layer and of the head that reads it, as for :func:`recurrent_link`; a pair that
            is named twice counts once.

    Raises:
        ValueError: as :func:`recurrent_link` does.

    Example:
        >>> net = nn.ModuleDict({"memory": nn.GRU(2, 3), "say": nn.Linear(3, 1)})
        >>> network_links(net, [("memory", "say"), ("memory", "say")])
        [Link(source='memory', reader='say', between=(), part=None, column=0)]
    """
    return [*(recurrent_link(module, *names) for names in dict.fromkeys(recurrent)), *sequential_links(module)]


def default_links(module: nn.Module) -> list[Link]:
    """The links of our own networks: those of ``nn.Sequential``, and from ``lstm`` to ``head`` if they are there.

    Example:
        >>> net = nn.ModuleDict({"lstm": nn.LSTM(2, 3), "head": nn.Linear(3, 1)})
        >>> default_links(net)
        [Link(source='lstm', reader='head', between=(), part=None, column=0)]
    """
    own = dict(module.named_children())
    return network_links(module, [("lstm", "head")] if isinstance(own.get("lstm"), nn.RNNBase) else [])


def _is_sequence(part: nn.Module) -> bool:
    return isinstance(part, nn.Sequential) and type(part).forward is nn.Sequential.forward


def _leaves(name: str, part: nn.Module) -> list[tuple[str, nn.Module]]:
    """What a sequence runs one after the other, sequences in it included."""
    if not _is_sequence(part):
        return [(name, part)]
    children = [(f"{name}.{own}" if name else own, child) for own, child in part._modules.items() if child is not None]
    return [leaf for own, child in children for leaf in _leaves(own, child)]
