"""Spoken digits as mel spectra, whole speakers held out."""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.io import wavfile
from torch import Tensor

from prunekit.data_modules.bounded import read_bounded
from prunekit.data_modules.in_memory import Arrays, InMemoryDataModule
from prunekit.data_modules.mel import mel_bands
from prunekit.errors import ArgumentError, check_choice, check_count

HERTZ, WINDOW, HOP = 8_000, 200, 80  # 25 ms every 10 ms
TESTING = 2  # speakers of a fold
NAME = re.compile(r"(\d)_([a-z]+)_(\d{1,6})")
MOST_BYTES, MOST_FILES = 2**20, 100_000
FLOOR = 1e-2  # of a band's energy, below which there is silence
WANTED = "the Free Spoken Digit Dataset: data_dir/spoken_digits/recordings/<digit>_<speaker>_<index>.wav, 8 kHz mono"


class SpokenDigits(InMemoryDataModule):
    """The Free Spoken Digit Dataset: 3,000 recordings of ten digits by six speakers, ``(n, frames, bands)`` float32.

    A recording is made as loud as the others. A frame is the logarithm of the energies of 25 ms in ``bands`` mel bands,
    every 10 ms, less the recording's mean in each band, which tells voice and microphone rather than the word; divided
    by the training speakers' deviation. Recordings of fewer frames are padded with 0 in front, so that the last frame
    is the end of the word; of longer ones the end is left out. Of three folds of two speakers, in the order of their
    names, one tests: recordings of one speaker are alike. Samples are sorted by speaker, so that with
    ``eval_batch_size`` of a speaker's recordings (500) each batch that units are scored and repaired on has one.

    Source: Jackson and others, https://github.com/Jakobovski/free-spoken-digit-dataset, whose folder ``recordings`` is
    wanted as ``data_dir/spoken_digits/recordings`` (CC BY-SA 4.0).

    Args:
        data_dir: a folder of data sets, only read.
        batch_size: recordings of a training batch over all devices together.
        seed: of the shuffling of each epoch.
        fold: 0, 1 or 2, which two speakers test.
        validation_speakers: how many of the other speakers are held out for validation, the last ones.
        frames: of a recording.
        bands: mel bands.
        eval_batch_size: recordings of an evaluation batch.
        scoring: how many of the training recordings units are scored and repaired on, the first ones; None for all.

    Raises:
        ArgumentError: if a value is not accepted, or files are missing, damaged or odd.
    """

    def __init__(
        self,
        data_dir: str,
        batch_size: int,
        seed: int,
        fold: int = 0,
        validation_speakers: int = 0,
        frames: int = 64,
        bands: int = 24,
        eval_batch_size: int = 500,
        scoring: int | None = None,
    ) -> None:
        super().__init__(batch_size, 0.0, seed, eval_batch_size, scoring)
        self.folder = Path(data_dir) / "spoken_digits" / "recordings"
        check_choice("fold", fold, (0, 1, 2))
        self.fold = fold
        self.validation_speakers = check_count("validation_speakers", validation_speakers)
        self.frames, self.bands = check_count("frames", frames, least=1), check_count("bands", bands, least=1)
        self.speakers: dict[str, list[str]] = {}

    def load(self) -> Arrays:
        """Read all recordings, part by part."""
        found: dict[str, list[tuple[Path, int]]] = {}
        for number, path in enumerate(sorted(self.folder.glob("*.wav"))):
            match = NAME.fullmatch(path.stem)
            if match is None or number >= MOST_FILES:
                why = "of another name" if match is None else f"one of more than {MOST_FILES:,}"
                raise ArgumentError("data_dir", f"{path}, {why}", WANTED, self)
            found.setdefault(match[2], []).append((path, int(match[1])))
        names = sorted(found)
        testing = names[self.fold * TESTING : (self.fold + 1) * TESTING]
        rest = [name for name in names if name not in testing]
        training = rest[: len(rest) - self.validation_speakers]
        if len(testing) < TESTING or not training:
            there = f"recordings of {', '.join(names)}" if names else "no recordings"
            got = f"{self.folder}, with {there}" if self.folder.is_dir() else f"{self.folder}, which is not there"
            accepted = f"{WANTED}, six speakers; `git clone https://github.com/Jakobovski/free-spoken-digit-dataset`"
            if names:
                accepted += f"; {TESTING} speakers test in fold {self.fold}, {self.validation_speakers} validate"
            raise ArgumentError("data_dir", got, accepted, self)
        self.speakers = {"train": training, "validation": rest[len(training) :], "test": testing}
        parts = [self._part([each for name in self.speakers[part] for each in found[name]]) for part in self.speakers]
        heard = np.concatenate([frames for frames, _ in parts[0]])
        deviation = heard.std(0).clip(min=FLOOR)
        (x, y), (x_held, y_held), (x_test, y_test) = (self._padded(part, deviation) for part in parts)
        return Arrays(x, y, x_test, y_test, *((x_held, y_held) if self.validation_speakers else ()))

    def _part(self, recordings: list[tuple[Path, int]]) -> list[tuple[NDArray[np.float64], int]]:
        bands = mel_bands(HERTZ, self.bands, WINDOW // 2 + 1)
        made = [(log_energies(self._wave(path), bands), digit) for path, digit in recordings]
        return [((frames - frames.mean(0))[: self.frames], digit) for frames, digit in made]

    def _padded(
        self, part: list[tuple[NDArray[np.float64], int]], deviation: NDArray[np.float64]
    ) -> tuple[Tensor, Tensor]:
        x = torch.zeros(len(part), self.frames, self.bands)
        for row, (frames, _) in zip(x, part, strict=True):
            row[len(row) - len(frames) :] = torch.from_numpy(frames / deviation)
        return x, torch.tensor([digit for _, digit in part], dtype=torch.int64)

    def _wave(self, path: Path) -> NDArray[np.float64]:
        content = read_bounded(path, MOST_BYTES, WANTED)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that hold no sound
                hertz, wave = wavfile.read(io.BytesIO(content))
            if hertz != HERTZ or wave.ndim != 1 or wave.dtype != np.int16 or not len(wave):
                raise ValueError(f"{len(wave)} samples at {hertz} Hz, {wave.dtype}, {wave.ndim} dimensions")
        except Exception as error:  # whatever the reader makes of damaged headers
            raise ArgumentError("data_dir", f"{path} ({type(error).__name__}: {error})", WANTED, self) from error
        return np.asarray(wave / max(1.0, float(np.sqrt(np.mean(wave.astype(np.float64) ** 2)))))

    def valid(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Which frames are no padding, ``(N, frames)`` bool."""
        return batch[0].any(2)

    def model_arguments(self) -> dict[str, Any]:
        """What a model has to be given to fit the data."""
        return {"inputs": self.bands, "outputs": 10, "classes": 10}

    def report(self) -> dict[str, Any]:
        """Who is heard where."""
        return {f"{part} speakers": ", ".join(names) for part, names in self.speakers.items() if names}


def log_energies(wave: NDArray[np.float64], bands: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of a sound's energies in bands, a frame every 10 ms.

    Args:
        wave: ``(samples,)`` of a mean square of 1, one or more.
        bands: ``(n, frequencies)``, as :func:`~prunekit.data_modules.mel.mel_bands` gives them.

    Returns:
        ``(frames, n)``.
    """
    padded = np.pad(wave, WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW + 1)[:-1]
    made: NDArray[np.float64] = np.log(np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ bands.T + FLOOR)
    return made
