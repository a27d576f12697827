"""Small data sets of sequences, in the layouts of the real ones."""

import numpy as np
from scipy.io import savemat, wavfile

SPEAKERS = ("ann", "bob", "cid", "dot", "eve", "fay")
WORDS = [f"w{number}" for number in range(8)]


def write_digits(root, each=1, speakers=SPEAKERS, digits=10):
    """Tones whose pitch is the digit's, a little higher with each speaker."""
    folder = root / "spoken_digits" / "recordings"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for place, speaker in enumerate(speakers):
        for digit in range(digits):
            for index in range(each):
                t = np.arange(rng.integers(900, 1500)) / 8000
                wave = np.sin(2 * np.pi * (300 + 300 * digit + 20 * place) * t) + 0.05 * rng.normal(size=len(t))
                wavfile.write(folder / f"{digit}_{speaker}_{index}.wav", 8000, (8000 * wave).astype(np.int16))
    return folder


def sentences(number, seed=0):
    """Words that mostly count up; the unknown word is among them."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(number):
        start = int(rng.integers(8))
        words = [WORDS[(start + step) % 8] if rng.random() < 0.9 else "<unk>" for step in range(6)]
        lines.append(" " + " ".join(words) + " \n")
    return "".join(lines)


def write_words(root, train=60, others=20):
    folder = root / "ptb"
    folder.mkdir(parents=True)
    (folder / "ptb.train.txt").write_text(" " + " ".join(WORDS) + " \n" + sentences(train))
    for number, part in enumerate(("valid", "test"), start=1):
        (folder / f"ptb.{part}.txt").write_text(sentences(others, number))
    return folder


def rolls(number, seed=0, shortest=5, longest=12):
    """Pieces that walk up the keys."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        steps, start = int(rng.integers(shortest, longest)), int(rng.integers(88))
        roll = np.zeros((steps, 88), dtype=np.uint8)
        roll[np.arange(steps), (start + np.arange(steps)) % 88] = 1
        made.append(roll)
    return made


def cells(arrays):
    made = np.empty((1, len(arrays)), dtype=object)
    for number, array in enumerate(arrays):
        made[0, number] = array
    return made


def write_rolls(root, name="JSB_Chorales", train=20, others=6, **changes):
    folder = root / "poly_music"
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"traindata": rolls(train), "validdata": rolls(others, 1), "testdata": rolls(others, 2)} | changes
    savemat(folder / f"{name}.mat", {key: cells(each) for key, each in parts.items()}, do_compression=True)
    return folder / f"{name}.mat"


def write_all(root):
    """All of them."""
    write_digits(root)
    write_words(root)
    write_rolls(root, "Nottingham")
    write_rolls(root)
