"""Recurrent networks made smaller without labels: ``python -m benchmarks.recurrent rows | voice ...``.

``rows`` trains an LSTM and a GRU that read MNIST's images row by row, and removes 80 % of their units. ``voice`` takes
the speaker encoder that the package ``resemblyzer`` ships (``pip install --no-deps resemblyzer``; Apache-2.0), and the
Free Spoken Digit Dataset; units go in each of its three layers, and what counts is the equal error rate over all pairs
of utterances of five digits. Speakers are heard in calibration with the other half of their recordings, or not at all.
With ``--rows FOLDER`` what came out is left as ``compared.csv``, for ``prunekit compare`` beside other tasks.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import wavfile
from scipy.signal import resample_poly
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.tables import show
from prunekit.app.reports.compared import COMPENSATION, EPOCHS, SHORT, Row, Task, of_rows
from prunekit.app.reports.labels import CRITERION
from prunekit.app.reports.rows_file import write_rows
from prunekit.app.reports.run import ORDER, SEED
from prunekit.calibration import Calibration
from prunekit.criteria.criterion import Criterion
from prunekit.criteria.entropy import Entropy
from prunekit.criteria.l1_norm import L1Norm
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.criteria.standard_deviation import StandardDeviation
from prunekit.data_modules.mel import mel_bands
from prunekit.data_modules.mnist import Mnist
from prunekit.metrics import Metric
from prunekit.pruning import prune
from prunekit.shrinking import call, shrink
from prunekit.teaching import teach
from prunekit.units.network_units import NetworkUnits
from prunekit.units.repair import Linear

CRITERIA: dict[str, Callable[[int], Criterion]] = {
    "reconstruction": lambda seed: Reconstruction(),
    "standard deviation": lambda seed: StandardDeviation(),
    "entropy": lambda seed: Entropy(),
    "L1 norm": lambda seed: L1Norm(),
    "random": Random,
}
SETTINGS = ("heard", "unheard")
EQUAL_ERROR = Metric("eer", "equal error rate", higher_is_better=False, share=True)
RATE, FRAMES, BANDS, HERTZ = 0.8, 160, 40, 16_000


class RowReader(nn.Module):
    """An image's rows, one a step, to ten logits."""

    def __init__(self, kind: type[nn.RNNBase], units: int = 128) -> None:
        super().__init__()
        self.memory, self.say = kind(28, units, batch_first=True), nn.Linear(units, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(N, 10)`` of images ``(N, 28, 28)``."""
        logits: Tensor = self.say(self.memory(x)[0][:, -1])
        return logits


def rows(data_dir: str, cache_dir: str, epochs: int, seed: int) -> None:
    """Print the table of row-wise MNIST."""
    data = Mnist(data_dir, cache_dir, batch_size=200, validation=0.0, seed=seed)
    data.setup()
    (x, y), (x_test, y_test) = (
        (torch.cat([each[0] for each in loader]).view(-1, 28, 28), torch.cat([each[1] for each in loader]))
        for loader in (data.train_dataloader(), data.test_dataloader())
    )

    @torch.no_grad()
    def accuracy(net: nn.Module) -> str:
        right = sum(
            int((net(a).argmax(1) == b).sum()) for a, b in zip(x_test.split(2000), y_test.split(2000), strict=True)
        )
        return f"{right / len(y_test):.1%}"

    table = []
    for kind in (nn.LSTM, nn.GRU):
        torch.manual_seed(seed)
        net = RowReader(kind)
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(epochs):
            for part in torch.randperm(len(x)).split(200):
                optimizer.zero_grad()
                cross_entropy(net(x[part]), y[part]).backward()
                optimizer.step()
        batches = list(x[:12_000].split(500))
        for name, criterion in CRITERIA.items():
            cut = copy.deepcopy(net)
            prune(cut, NetworkUnits(), criterion(seed), RATE, batches, scope="within")
            started = time.perf_counter()
            small = shrink(net, batches, RATE, layers=["memory"], criterion=criterion(seed), show=False)
            seconds = time.perf_counter() - started
            found = [accuracy(each) for each in (net, cut, small.module)]
            table.append([f"{kind.__name__}, {name}", *found, f"{seconds:.0f}"])
    show(
        f"Row-wise MNIST, {RATE:.0%} of 128 units gone, no labels, no retraining, {torch.get_num_threads()} threads",
        ["", "dense", "cut alone", "closed loop", "seconds"], table,
    )  # fmt: skip


class Encoder(nn.Module):
    """The speaker encoder: three LSTM layers, a linear one, ReLU, unit length."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(BANDS, 256, 3, batch_first=True), nn.Linear(256, 256)
        stored = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({name: stored[name] for name in self.state_dict()})

    def forward(self, x: Tensor) -> Tensor:
        """Embeddings ``(N, 256)`` of mel spectra ``(N, T, 40)``."""
        embedding = self.linear(self.lstm(x)[1][0][-1]).relu()
        return embedding / embedding.norm(dim=1, keepdim=True).clamp(min=1e-12)


def utterances(recordings: Sequence[np.ndarray], seed: int) -> Tensor:
    """Five recordings at a time, joined: the middle 160 frames of their mel power spectra, ``(n, 160, 40)``."""
    bands, window, made = mel_bands(HERTZ, BANDS, 201), np.hanning(401)[:-1], []
    order = np.random.default_rng(seed).permutation(len(recordings))
    for five in order[: len(order) // 5 * 5].reshape(-1, 5):
        wave = np.concatenate([recordings[number] for number in five])
        wave = wave * max(1.0, 10 ** (-30 / 20) / np.sqrt(np.mean(wave**2)))
        frames = np.lib.stride_tricks.sliding_window_view(np.pad(wave, 200), 400)[::160] * window
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ bands.T
        power = np.pad(power, ((0, max(0, FRAMES - len(power))), (0, 0)))
        first = (len(power) - FRAMES) // 2
        made.append(power[first : first + FRAMES])
    return torch.from_numpy(np.stack(made)).float()


@torch.no_grad()
def equal_error_rate(encoder: nn.Module, speakers: Iterable[Tensor]) -> float:
    """Where as many pairs of one speaker are refused as pairs of two are taken for one, by cosine."""
    embeddings = [encoder(each) for each in speakers]
    of = torch.cat([torch.full((len(each),), number) for number, each in enumerate(embeddings)])
    every = torch.cat(embeddings).double()
    one, other = torch.triu_indices(len(every), len(every), 1)
    order = (every @ every.T)[one, other].argsort()
    same = (of[one] == of[other])[order].double()
    refused, taken = same.cumsum(0) / same.sum(), 1 - (1 - same).cumsum(0) / (1 - same).sum()
    return float(torch.stack([refused, taken]).mean(0)[(refused - taken).abs().argmin()])


def voice(
    weights: Path,
    folder: Path,
    rates: Sequence[float],
    draws: int,
    criteria: Sequence[str],
    settings: Sequence[str] = SETTINGS,
    teacher: int = 0,
    held_out: int | None = None,
) -> list[Task]:
    """Print the tables of the speaker encoder; with so many epochs of a teacher as well, if that is not 0.

    One of ``held_out`` batches is held out of the repair, by default of four where speakers are heard, of three where
    they are not, which is a whole speaker.

    Returns:
        The same as rows that ways of pruning can be held against each other by; a draw of utterances is a network.
    """
    rows: dict[str, list[Row]] = {}
    heard: dict[str, list[list[np.ndarray]]] = {}
    for path in sorted(folder.glob("*_*_*.wav")):
        _, speaker, number = path.stem.split("_")
        wave = resample_poly(wavfile.read(path)[1] / 32768, 2, 1)
        heard.setdefault(speaker, [[], []])[int(number) % 2].append(wave)
    names, dense = sorted(heard), Encoder(weights).eval()
    table = []
    for setting in settings:
        for rate in rates:
            for name in criteria:
                results: list[tuple[float, ...]] = []
                for draw in range(draws):
                    ours = names if setting == "heard" else names[draw % 2 * 3 : draw % 2 * 3 + 3]
                    theirs = names if ours == names else [other for other in names if other not in ours]
                    # A batch is one speaker's, and a speaker is held out whole where others are tested.
                    pieces = [torch.cat([utterances(half, draw) for half in heard[each][: 1 if ours == names else 2]])
                              for each in ours]  # fmt: skip
                    batches = [part for each in pieces for part in each.split(25)] if ours == names else pieces
                    test = [utterances(heard[each][1], draw) for each in theirs]
                    cut = copy.deepcopy(dense)
                    prune(cut, NetworkUnits(["lstm"]), CRITERIA[name](draw), rate, batches, scope="within")
                    hold_out = (4 if ours == names else 3) if held_out is None else held_out
                    how: dict[str, Any] = {"criterion": CRITERIA[name](draw), "hold_out": hold_out, "show": False}
                    small, open_loop = (
                        shrink(dense, batches, rate, layers=["lstm"], repair=repair, **how)
                        for repair in (None, Linear())
                    )
                    nets = [dense, cut, open_loop.module, small.module]
                    if teacher:
                        nets.append(copy.deepcopy(small.module))
                        # A step for each ten utterances: a whole speaker's would make three an epoch.
                        tens = [part for batch in batches for part in batch.split(10)]
                        teach(nets[-1], dense, Calibration(tens, call, hold_out=hold_out), teacher)
                    results.append(tuple(equal_error_rate(each, test) for each in nets))
                    way = {CRITERION: name.replace(" ", "_"), ORDER: "ascending", SEED: str(draw)}
                    for repair, found in zip(("none", "linear", "closed_loop"), results[-1][1:], strict=False):
                        said = dict.fromkeys(SHORT, "none") | way | {COMPENSATION: repair, EPOCHS: "0"}
                        row = Row(said, rate, found, results[-1][0], None, f"{setting} {rate} {name} {repair} {draw}")
                        rows.setdefault(f"voice_{setting}", []).append(row)
                    print(setting, rate, name, draw, [f"{100 * value:.1f}" for value in results[-1]], flush=True)
                means = [f"{100 * sum(each) / draws:.1f} %" for each in zip(*results, strict=True)]
                left = sum(p.numel() for p in small.module.parameters()) / sum(p.numel() for p in dense.parameters())
                table.append([f"speakers {setting}, {rate:.0%}, {name}", *means, f"{left:.0%}"])
    show(
        f"Speaker encoder, units gone in each of 3 layers; equal error rate, mean of {draws} draws, "
        f"{torch.get_num_threads()} threads",
        ["", "dense", "cut alone", "open loop", "closed loop", *["and teacher"][: teacher > 0], "parameters left"],
        table,
    )
    return [of_rows(name, EQUAL_ERROR, own) for name, own in rows.items()]


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["rows", "voice"])
    parser.add_argument("--weights", type=Path, help="pretrained.pt of resemblyzer")
    parser.add_argument("--recordings", type=Path, help="the folder recordings/ of the Free Spoken Digit Dataset")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.25, 0.5, 0.75])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--criteria", nargs="+", choices=list(CRITERIA), default=["reconstruction", "random"])
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--teacher", type=int, default=0, help="epochs of a teacher behind the repair")
    parser.add_argument("--hold-out", type=int, help="hold one of so many batches out of the repair; 0: none")
    parser.add_argument("--rows", type=Path, help="a folder for compared.csv")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.task == "voice":
        how = (given.rates, given.draws, given.criteria, given.settings, given.teacher, given.hold_out)
        found = voice(given.weights, given.recordings, *how)
        if given.rows is not None:
            write_rows(given.rows / "compared.csv", found)
    else:
        folders = (os.environ.get("PRUNEKIT_DATA_DIR", "data"), os.environ.get("PRUNEKIT_CACHE_DIR", "cache"))
        rows(*folders, given.epochs, seed=0)


if __name__ == "__main__":
    main()
