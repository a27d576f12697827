"""Compact LSTMs side by side with dense ones, what other tools do to an LSTM, and what compensation takes.

The other tools are Torch-Pruning (``pip install torch-pruning``; left out where it is not installed) and torch's own
``torch.ao.pruning``.
"""

import copy
import importlib.util
import time
import warnings
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.tables import show
from prunekit.accounting import macs
from prunekit.criteria.l1_norm import L1Norm
from prunekit.latency import medians
from prunekit.models.recognizer import Recognizer
from prunekit.pruning import prune
from prunekit.units.compaction import compact, difference
from prunekit.units.compensation import compensate, fit
from prunekit.units.forward_selection import forward_selection
from prunekit.units.grouping import Units
from prunekit.units.links import recurrent_link
from prunekit.units.moments import OutputMoments

INPUTS, UNITS, STEPS, CLASSES = 512, 1024, 25, 6
CLIPS, BATCH, EPOCHS = 216, 32, 20
RATES = (0.5, 0.8, 0.9, 0.95)


def recognizer(device: str = "cpu") -> Recognizer:
    torch.manual_seed(0)
    return Recognizer(INPUTS, CLASSES, partial(torch.optim.Adam, lr=0.001)).to(device).eval()


@torch.no_grad()
def speed(repeats: int, device: str = "cpu") -> None:
    """The LSTM alone, at several rates of removed units."""
    net = recognizer(device)
    lstms = {0.0: net.lstm}
    for rate in RATES:
        masked = copy.deepcopy(net)
        Units("lstm").mask(masked, torch.arange(UNITS) < round(rate * UNITS)).apply(masked)
        lstms[rate] = compact(masked, [recurrent_link(masked, "lstm", "head")]).module.lstm
    operations = {rate: macs(lstm, torch.zeros(1, STEPS, INPUTS, device=device)) for rate, lstm in lstms.items()}
    found = {}
    for batch in (64, 1):
        x = torch.rand(batch, STEPS, INPUTS, device=device)
        seconds = medians({str(rate): partial(lstm, x) for rate, lstm in lstms.items()}, repeats, warm=True)
        found[batch] = {rate: seconds[str(rate)] for rate in lstms}
    rows = []
    for rate, lstm in lstms.items():
        row = [f"{rate:.0%}", str(lstm.hidden_size)]
        for batch in (64, 1):
            mine = found[batch][rate]
            row += [f"{1000 * mine:.2f}", f"{found[batch][0.0] / mine:.1f}"]
        rows.append([*row, f"{operations[0.0] / operations[rate]:.1f}"])
    columns = ["units removed", "left", "batch 64 (ms)", "faster", "batch 1 (ms)", "faster", "fewer multiply-adds"]
    title = f"An LSTM of {UNITS} units on {INPUTS} inputs, {STEPS} steps, {torch.get_num_threads()} threads, {device}"
    show(title, columns, rows)


class Small(nn.Module):
    """An LSTM and what reads its outputs, in the one way that ``torch.ao.pruning`` knows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of every step."""
        outputs, _ = self.lstm(x)
        logits: Tensor = self.head(outputs)
        return logits


def by_prunekit(net: Small, x: Tensor) -> str:
    """Half of the units, those of the smallest L1 norm."""
    prune(net, Units("lstm"), L1Norm(), 0.5)
    small = compact(net, [recurrent_link(net, "lstm", "head")]).module
    units = small.lstm.hidden_size
    return f"{units} units, largest difference between masked and compact {difference(net(x), small(x)):.1e}"


def by_torch_pruning(net: Small, x: Tensor) -> str:
    """Half of the outputs, by its own L1 importance."""
    if importlib.util.find_spec("torch_pruning") is None:
        return "not installed"
    import torch_pruning as tp

    try:
        importance = tp.importance.MagnitudeImportance(p=1)
        pruner = tp.pruner.MagnitudePruner(net, x, importance, pruning_ratio=0.5, ignored_layers=[net.head])
        pruner.step()
        before = sum(p.numel() for p in Small().parameters())
        return f"{net.lstm.hidden_size} units, {sum(p.numel() for p in net.parameters()) / before:.0%} of parameters"
    except Exception as error:  # whatever it raises is the result
        return f"{type(error).__name__}: {error}"


def by_torch_ao(net: Small, x: Tensor) -> str:
    """Half of the rows of both weights, by its own saliency."""
    from torch.ao.pruning._experimental.pruner import LSTMSaliencyPruner

    try:
        pruner = LSTMSaliencyPruner({"sparsity_level": 0.5})
        config = [{"tensor_fqn": "lstm.weight_ih_l0"}, {"tensor_fqn": "lstm.weight_hh_l0"}]
        pruner.prepare(net, config)
        pruner.enable_mask_update = True
        pruner.step()
        masked = net(x)
        rows = [(getattr(net.lstm, name) != 0).any(1).view(4, 32) for name in ("weight_ih_l0", "weight_hh_l0")]
        alike = all(bool((mask == rows[0][0]).all()) for mask in rows)
        small = pruner.prune()
        shape = tuple(small.lstm.weight_hh_l0.shape)
        apart = difference(masked, small(x))
        whose = "the same" if alike else "not the same"
        return f"W_hh {shape}, {whose} units in all gates and weights; masked and shrunk differ by {apart:.2g}"
    except Exception as error:  # whatever it raises is the result
        return f"{type(error).__name__}: {error}"


def peers() -> None:
    """One and the same LSTM to each tool."""
    torch.manual_seed(1)
    x = torch.randn(8, 10, 16)
    tools = {"prunekit": by_prunekit, "Torch-Pruning": by_torch_pruning, "torch.ao.pruning": by_torch_ao}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = [[name, tool(Small().eval(), x)] for name, tool in tools.items()]
    show("Half of the units of an nn.LSTM(16, 32) and its nn.Linear", ["tool", "what it makes of them"], rows)


@torch.no_grad()
def passed(net: Recognizer, x: Tensor) -> Tensor:
    """The outputs of all clips."""
    return net.states(x)


def compensation(repeats: int) -> None:
    """What compensation and its criterion take, against training the network."""
    net = recognizer()
    x, y = torch.rand(CLIPS, STEPS, INPUTS), torch.arange(CLIPS) % CLASSES
    h = passed(net, x)
    moments = OutputMoments.of(h)
    weight = net.head.get_submodule("hidden").get_parameter("weight").detach().double()
    wanted = weight.T @ weight
    covariance, kept = moments.fed_back.covariance(), torch.arange(UNITS) >= UNITS // 2
    stay, go = kept.nonzero().flatten(), (~kept).nonzero().flatten()
    optimizer = net.configure_optimizers()

    def epoch() -> None:
        for inputs, classes in zip(x.split(BATCH), y.split(BATCH), strict=True):
            optimizer.zero_grad()
            net.training_step((inputs, classes)).backward()
            optimizer.step()

    trial = copy.deepcopy(net)
    found = medians(
        {
            f"dense training, {EPOCHS} epochs": epoch,
            "a pass over the clips": lambda: passed(net, x),
            "moments": partial(OutputMoments.of, h),
            "solve, half of the units": lambda: [fit(m, stay, go) for m in (moments.fed_back, moments.read)],
            "solve and fold": lambda: compensate(trial.lstm, [trial.head.get_submodule("hidden")], moments, kept),  # type: ignore[list-item]
        },
        repeats,
    )
    (dense, *_) = found
    found[dense] *= EPOCHS
    started = time.perf_counter()
    forward_selection(covariance, wanted, 1e-4)
    found["selection of all units, once a network"] = time.perf_counter() - started
    rows = [[name, f"{seconds:.2f}", f"{seconds / found[dense]:.1%}"] for name, seconds in found.items()]
    show(f"{CLIPS} clips of {STEPS} steps, {UNITS} units", ["", "seconds", "of the training"], rows)


def main(repeats: int = 15) -> None:
    """Print all tables."""
    peers()
    speed(repeats)
    if torch.cuda.is_available():
        speed(repeats, "cuda")
    compensation(5)


if __name__ == "__main__":
    main()
