"""What other tools make of recurrent networks: ``python -m benchmarks.recurrent_peers [--weights pretrained.pt]``.

Five networks, half of the units of each hidden layer: a tagger of two two-way LSTM layers, a GRU over packed tokens, an
LSTM cell in a loop, a perceptron, and the speaker encoder that ``resemblyzer`` ships (random weights without
``--weights``). Torch-Pruning is left out where it is not installed (``pip install torch-pruning``). What a tool raises
is its result; else the parameters left, how far outputs on fresh batches are from the dense network's
(``sqrt(sum (a - b)^2 / sum a^2)``), and the time of a batch against the dense network's.
"""

import argparse
import copy
import importlib.util
import logging
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as torch_prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.recurrent import BANDS, Encoder
from benchmarks.tables import show
from prunekit.latency import medians
from prunekit.shrinking import shrink

RATE, BATCHES, REPEATS = 0.5, 12, 15
GATES: dict[type[nn.Module], int] = {nn.LSTM: 4, nn.GRU: 3}


class Tagger(nn.Module):
    """Two two-way LSTM layers, and what says a class at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.say = nn.LSTM(16, 64, 2, bidirectional=True, batch_first=True), nn.Linear(128, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of each step."""
        logits: Tensor = self.say(self.memory(x)[0])
        return logits


class Tokens(nn.Module):
    """A GRU over packed tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.memory, self.say = nn.Embedding(50, 16), nn.GRU(16, 64, batch_first=True), nn.Linear(64, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of each step; a 0 is padding."""
        lengths = (tokens > 0).sum(1).cpu()
        packed = pack_padded_sequence(self.embed(tokens), lengths, batch_first=True, enforce_sorted=False)
        logits: Tensor = self.say(pad_packed_sequence(self.memory(packed)[0], batch_first=True)[0])
        return logits


class Looped(nn.Module):
    """An LSTM cell, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.say = nn.LSTMCell(16, 64), nn.Linear(64, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the last step."""
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        assert state is not None
        logits: Tensor = self.say(state[0])
        return logits


class Network(NamedTuple):
    """A network, and batches for it; the last one is fresh."""

    dense: nn.Module
    batches: list[Tensor]


def networks(weights: Path | None) -> dict[str, Network]:
    """The five, in evaluation mode; those that are not trained are of weights at which mistakes show."""
    torch.manual_seed(0)

    def tokens() -> Tensor:
        lengths = torch.randint(5, 21, (32, 1))
        lengths[0] = 20
        return torch.randint(1, 50, (32, 20)) * (torch.arange(20) < lengths)

    plain = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    found = {
        "2 two-way LSTMs": (Tagger(), lambda: torch.randn(32, 20, 16).cumsum(1) / 3),
        "GRU, packed tokens": (Tokens(), tokens),
        "LSTM cell, looped": (Looped(), lambda: torch.randn(32, 20, 16).cumsum(1) / 3),
        "perceptron": (plain, lambda: torch.randn(256, 16)),
    }
    for net, _ in found.values():
        for parameter in net.parameters():
            parameter.data.mul_(1.5)
    made = {name: Network(net.eval(), [make() for _ in range(BATCHES + 1)]) for name, (net, make) in found.items()}
    spoken = [(torch.randn(8, 160, BANDS).cumsum(1) / 10).square() * 0.05 for _ in range(BATCHES + 1)]
    encoder = Encoder(weights) if weights is not None else None
    return made | ({"speaker encoder": Network(encoder.eval(), spoken)} if encoder is not None else {})


def by_prunekit(given: Network) -> nn.Module:
    """``shrink``."""
    return shrink(given.dense, given.batches[:-1], RATE, show=False).module


def by_torch_pruning(given: Network) -> nn.Module:
    """By its own L1 importance; the last linear layer keeps its outputs."""
    import torch_pruning as tp

    net = copy.deepcopy(given.dense)
    last = [part for part in net.modules() if isinstance(part, nn.Linear)][-1]
    importance = tp.importance.MagnitudeImportance(p=1)
    tp.pruner.MagnitudePruner(net, given.batches[0], importance, pruning_ratio=RATE, ignored_layers=[last]).step()
    return net


def by_torch_ao(given: Network) -> nn.Module:
    """By ``LSTMSaliencyPruner``, and ``SaliencyPruner`` where there is no LSTM."""
    from torch.ao.pruning._experimental.pruner import LSTMSaliencyPruner, SaliencyPruner

    net = copy.deepcopy(given.dense)
    names = [n for n, _ in net.named_parameters() if "weight_ih" in n or "weight_hh" in n]
    if names:
        pruner: Any = LSTMSaliencyPruner({"sparsity_level": RATE})
    else:
        pruner = SaliencyPruner({"sparsity_level": RATE})
        names = [f"{n}.weight" for n, part in net.named_modules() if isinstance(part, nn.Linear)][:-1]
    pruner.prepare(net, [{"tensor_fqn": name} for name in names])
    pruner.enable_mask_update = True
    pruner.step()
    made: nn.Module = pruner.prune()
    return made


def by_nn_utils(given: Network) -> nn.Module:
    """By ``ln_structured``, rows of each weight of hidden layers by L1, made permanent."""
    net = copy.deepcopy(given.dense)
    last = [part for part in net.modules() if isinstance(part, nn.Linear)][-1]
    for part in net.modules():
        for name in [n for n in part._parameters if n.startswith("weight") and not isinstance(part, nn.Embedding)]:
            if part is not last:
                torch_prune.ln_structured(part, name, amount=RATE, n=1, dim=0)
                torch_prune.remove(part, name)
    for part in net.modules():
        if isinstance(part, nn.RNNBase):
            part.flatten_parameters()
    return net


def by_open_loop(given: Network) -> nn.Module:
    """What somebody would write in an hour: units by L1, the rest regressed on along the dense network's trajectory."""
    net = copy.deepcopy(given.dense)
    recurrent = [part for part in net.modules() if type(part) in GATES]
    linear = [part for part in net.modules() if isinstance(part, nn.Linear)]
    if len(recurrent) != 1 or recurrent[0].bidirectional or len(linear) != 1:
        raise NotImplementedError("written for one nn.LSTM or nn.GRU of one direction and one nn.Linear")
    layer, reader, gates = recurrent[0], linear[0], GATES[type(recurrent[0])]
    keeps, readers = [], []
    data = [net_inputs(net, layer, batch) for batch in given.batches[:-1]]
    for number in range(layer.num_layers):
        w_ih, w_hh = (layer.get_parameter(f"weight_{kind}_l{number}").data for kind in ("ih", "hh"))
        score = (w_ih.abs().sum(1) + w_hh.abs().sum(1)).view(gates, -1).sum(0)
        kept = torch.zeros(layer.hidden_size, dtype=torch.bool)
        kept[score.topk(layer.hidden_size // 2).indices] = True
        keeps.append(kept)
        alone = type(layer)(w_ih.shape[1], layer.hidden_size, batch_first=True)
        alone.load_state_dict(
            {f"{n.rpartition('_l')[0]}_l0": p for n, p in layer.named_parameters() if n.endswith(f"_l{number}")}
        )
        data = [alone(x)[0] for x in data]
        h = torch.cat([x.data if hasattr(x, "data") else x for x in data]).reshape(-1, layer.hidden_size)
        one = torch.cat([h[:, kept], torch.ones(len(h), 1)], 1)
        said = torch.linalg.lstsq(one.double(), h[:, ~kept].double()).solution.float()  # (kept + 1, gone)
        above = layer.get_parameter(f"weight_ih_l{number + 1}") if number + 1 < layer.num_layers else reader.weight
        readers.append((kept, said, above, number))
    for kept, said, above, number in readers:
        w_hh = layer.get_parameter(f"weight_hh_l{number}")
        bias = layer.get_parameter(f"bias_ih_l{number + 1}") if number + 1 < layer.num_layers else reader.bias
        for weight, own in ((w_hh, layer.get_parameter(f"bias_hh_l{number}")), (above, bias)):
            own.data += weight.data[:, ~kept] @ said[-1]
            weight.data[:, kept] += weight.data[:, ~kept] @ said[:-1].T
    width = layer.hidden_size // 2
    small = type(layer)(layer.input_size, width, layer.num_layers, batch_first=True)
    below = torch.ones(layer.input_size, dtype=torch.bool)
    for number, kept in enumerate(keeps):
        for name in (f"{kind}_l{number}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")):
            value = layer.get_parameter(name).data[kept.repeat(gates)]
            columns = {"weight_ih": below, "weight_hh": kept}.get(name.rpartition("_l")[0])
            small.get_parameter(name).data.copy_(value if columns is None else value[:, columns])
        below = kept
    reader.weight.data = reader.weight.data[:, below]
    net.set_submodule(next(n for n, part in net.named_modules() if part is layer), small)
    return net.eval()


def net_inputs(net: nn.Module, layer: nn.Module, batch: Tensor) -> Any:
    """What a layer of a network reads."""
    seen: list[Any] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(batch)
    hook.remove()
    return seen[0]


TOOLS: dict[str, Callable[[Network], nn.Module]] = {
    "prunekit.shrink": by_prunekit,
    "Torch-Pruning": by_torch_pruning,
    "torch.ao.pruning": by_torch_ao,
    "torch.nn.utils.prune": by_nn_utils,
    "50 lines, open loop": by_open_loop,
}


def outcome(tool: Callable[[Network], nn.Module], given: Network) -> list[str]:
    """Parameters left, difference, time against the dense network's; or what went wrong."""
    fresh = given.batches[-1]
    try:
        with torch.enable_grad() if tool is by_torch_pruning else torch.no_grad():
            made = tool(given)
    except Exception as error:  # whatever it raises is the result
        return [f"{type(error).__name__}: {str(error).partition(chr(10))[0][:60]}", "", ""]
    with torch.no_grad():
        dense = given.dense(fresh)
        try:
            now = made(fresh)
        except Exception as error:  # likewise
            return [f"made, fails when called: {str(error).partition(chr(10))[0][:45]}", "", ""]
        seconds = medians({"dense": partial(given.dense, fresh), "now": partial(made, fresh)}, REPEATS, warm=True)
    left = sum(p.numel() for p in made.parameters()) / sum(p.numel() for p in given.dense.parameters())
    zeros = sum(int((p == 0).sum()) for p in made.parameters()) / sum(p.numel() for p in made.parameters())
    words = f"{left:.0%} of the parameters" + (f", {zeros:.0%} of these 0" if zeros > 0.05 else "")
    apart = float((now - dense).norm() / dense.norm())
    return [words, f"{apart:.1%}", f"{seconds['now'] / seconds['dense']:.2f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="pretrained.pt of resemblyzer")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    logging.getLogger("prunekit").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    tools = {name: tool for name, tool in TOOLS.items()
             if tool is not by_torch_pruning or importlib.util.find_spec("torch_pruning")}  # fmt: skip
    for name, network in networks(given.weights).items():
        rows = [[tool, *outcome(function, network)] for tool, function in tools.items()]
        show(f"{name}: half of the units, {given.threads} threads", ["", "", "outputs differ by", "time"], rows)


if __name__ == "__main__":
    main()
