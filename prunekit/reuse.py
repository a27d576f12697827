"""What the runs of a sweep share beside their dense networks: the scores of units, and the moments of their outputs."""

import hashlib
import inspect
import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from prunekit import units
from prunekit.app.identity import digest
from prunekit.files import write_whole
from prunekit.folders import locked
from prunekit.units.criteria.criterion import Criterion, Scores
from prunekit.units.moments import Moments, OutputMoments

PARTS, SUMS = ("read", "fed_back"), ("count", "total", "products")
log = logging.getLogger("prunekit")


def network_digest(module: nn.Module) -> str:
    """Twelve hex digits of the SHA-256 over all parameters and buffers: equal exactly when the networks are.

    Example:
        >>> one, other = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> network_digest(one) == network_digest(other)
        False
        >>> _ = other.load_state_dict(one.state_dict())
        >>> network_digest(one) == network_digest(other)
        True
    """
    sha = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:12]


@cache
def _code(criterion: type[Criterion] | None = None) -> str:
    """A hash of the code that moments, or a criterion's scores, are made by: after a change to it they are others."""
    sources = sorted(Path(units.__file__).parent.glob("*.py"))
    own = inspect.getsourcefile(criterion) if criterion else None
    return digest([path.read_text() for path in [*sources, *([Path(own)] if own else [])]])


class SharedScores:
    """Scores and moments that runs with one dense network leave for each other, each in a place of its own.

    Any number of processes, on any machines that see the folder, may use it at once.

    Args:
        folder: the dense network's, so that data, model and device are those that its hash covers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def place(self, network: str, lstm: str, head: str, criterion: Criterion, grain: str = "unit") -> Path | None:
        """The folder of a criterion's scores; None if it cannot be told apart from another by its values.

        Args:
            network: :func:`network_digest` of the network as it is.
            lstm: name of the LSTM in it.
            head: name of the head.
            criterion: what scores.
            grain: what is scored, ``unit`` or ``gate``.
        """
        kind = f"{type(criterion).__module__}.{type(criterion).__qualname__}"
        try:
            return self._folder / digest([network, lstm, head, grain, kind, _code(type(criterion)), vars(criterion)])
        except TypeError:  # it holds something that is no plain value
            return None

    def moments_place(self, network: str, lstm: str) -> Path:
        """The folder of the moments of an LSTM's outputs.

        Args:
            network: :func:`network_digest` of the network as it is.
            lstm: name of the LSTM in it.
        """
        return self._folder / digest([network, lstm, "moments", _code()])

    @contextmanager
    def hold(self, places: Iterable[Path]) -> Iterator[None]:
        """Lock some places, so that of two runs that start at once the second finds the first's scores."""
        with ExitStack() as stack:
            for place in sorted(places):  # in one order, so that no two processes wait for each other
                stack.enter_context(locked(place, "paths.runs_dir", wait=True))
            yield

    def load(self, place: Path) -> Scores | None:
        """The scores that lie there; None if there are none, or they are damaged."""
        content = _load(place / "scores.safetensors", ["values"])
        return None if content is None else Scores(content["values"], content.get("p_values"))

    def save(self, place: Path, scores: Scores) -> None:
        """Leave scores there, whole or not at all."""
        content = {key: value for key, value in scores._asdict().items() if value is not None}
        write_whole(place / "scores.safetensors", lambda file: file.write(save(content)))

    def load_moments(self, place: Path) -> OutputMoments | None:
        """The moments that lie there; None if there are none, or they are damaged."""
        content = _load(place / "moments.safetensors", [f"{part}.{name}" for part in PARTS for name in SUMS])
        if content is None:
            return None
        return OutputMoments(*(Moments(*(content[f"{part}.{name}"] for name in SUMS)) for part in PARTS))

    def save_moments(self, place: Path, moments: OutputMoments) -> None:
        """Leave moments there, whole or not at all."""
        parts = {part: getattr(moments, part) for part in PARTS}
        content = {f"{part}.{name}": getattr(sums, name).cpu() for part, sums in parts.items() for name in SUMS}
        write_whole(place / "moments.safetensors", lambda file: file.write(save(content)))


def _load(path: Path, names: Iterable[str]) -> dict[str, Tensor] | None:
    """The tensors of a file; None if there is none, or it is damaged or lacks one of these."""
    try:
        content: dict[str, Tensor] = load_file(path)
        for name in names:
            content[name]
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, KeyError) as error:
        log.warning("%s is damaged (%s); it is made again", path, error)
        return None
    log.info("%s: taken from %s", path.stem, path.parent)
    return content
