"""Compact LSTMs side by side with dense ones, and what compensation takes."""

import copy
import time
from functools import partial

import torch
from torch import Tensor

from benchmarks.tables import show
from prunekit.accounting import macs
from prunekit.latency import medians
from prunekit.models.recognizer import Recognizer
from prunekit.units.compaction import compact
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
    speed(repeats)
    if torch.cuda.is_available():
        speed(repeats, "cuda")
    compensation(5)


if __name__ == "__main__":
    main()
