import pytest
import torch

from prunekit.data_modules.ptb import MOST_BYTES, PennTreebank, in_columns, in_pieces
from prunekit.errors import ArgumentError
from prunekit.metrics import PADDING
from tests.data_modules.tasks import WORDS, write_words


def words(root, **arguments):
    return PennTreebank(str(root), **{"batch_size": 4, "seed": 0, "steps": 5, **arguments})


def text_of(data, part, root):
    lines = (root / "ptb" / f"ptb.{part}.txt").read_text().splitlines()
    return [data.words.index(word) for line in lines for word in (*line.split(), "<eos>")]


@pytest.mark.parametrize(("n", "columns", "steps"), [(8, 2, 3), (101, 4, 5), (102, 4, 5), (13, 12, 1), (7, 3, 50)])
def test_each_token_but_the_first_is_told_once_after_the_one_before_it(n, columns, steps):
    tokens = torch.arange(n)
    x, y = in_columns(tokens, columns, steps)
    there = y >= 0
    assert torch.equal(x[there] + 1, y[there])
    assert torch.equal(y[there].sort().values, tokens[1:])
    assert len(x) % columns == 0
    # Row i + columns goes on where row i ends.
    goes_on = there[columns:, 0]
    assert torch.equal(x[columns:, 0][goes_on], y[:-columns, -1][goes_on])


def test_all_parts_are_read_in_order_by_the_training_files_words(tmp_path):
    write_words(tmp_path)
    data = words(tmp_path)
    data.setup()
    assert data.words[:9] == [*WORDS, "<eos>"]
    assert data.model_arguments() == {"inputs": 10, "outputs": 10}
    for part, loader in (
        ("train", data.train_dataloader()), ("valid", data.val_dataloader()), ("test", data.test_dataloader()),
    ):  # fmt: skip
        text = text_of(data, part, tmp_path)
        batches = list(loader)
        assert all(x.shape == (4, 5) for x, _ in batches)
        column = torch.cat([y for _, y in batches], 1)
        assert column[column >= 0].tolist() == text[1:]
        assert torch.equal(torch.cat([x for x, _ in loader]), torch.cat([x for x, _ in batches]))  # no shuffling
        assert data.valid(batches[-1]).equal(batches[-1][1] >= 0)


def test_training_goes_on_in_the_middle_of_an_epoch(tmp_path):
    write_words(tmp_path)
    data = words(tmp_path)
    data.setup()
    loader, batches = data.train_dataloader(), []
    for x, _ in loader:
        batches.append(x)
        if len(batches) == 3:
            break
    again = data.train_dataloader()
    again.load_state_dict(loader.state_dict())
    batches += [x for x, _ in again]
    assert torch.equal(torch.cat(batches), torch.cat([x for x, _ in data.train_dataloader()]))


def test_pieces_are_runs_of_the_text(tmp_path):
    write_words(tmp_path)
    data = words(tmp_path, scoring=7)
    data.setup()
    x, y = (torch.cat(each) for each in zip(*data.scoring_dataloader(), strict=True))
    assert x.shape == (7, 20)
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert torch.equal(x[:4], torch.cat([each for each, _ in data.train_dataloader()][:4], 1))
    assert in_pieces(torch.arange(12).view(6, 2), columns=2, long=9).tolist() == [
        [0, 1, 4, 5, 8, 9],
        [2, 3, 6, 7, 10, 11],
    ]


@pytest.mark.parametrize(
    ("part", "content", "why"),
    [
        ("train", None, "No such file"),
        ("test", b"w1 w2 \xff\n", "decode"),
        ("valid", b"w1\n", "2 words"),
        ("train", b"w1 w2 w3 w4 w5\n", "which the training file does not have"),
        ("test", b"x" * 10 + b" w" * 9, ""),
    ],
)
def test_odd_files_are_named(tmp_path, part, content, why):
    path = write_words(tmp_path) / f"ptb.{part}.txt"
    if why == "":  # a word that is not known is the unknown one
        path.write_bytes(content)
        data = words(tmp_path)
        assert int((data.arrays.test_x == data.words.index("<unk>")).sum()) > 1
        return
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ArgumentError, match=f"^data_dir: .*ptb.*{why}.*accepted: Penn Treebank.s words"):
        _ = words(tmp_path).arrays


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path):
    with (write_words(tmp_path) / "ptb.test.txt").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ArgumentError, match=r"^data_dir: .*ptb\.test\.txt, of more than"):
        _ = words(tmp_path).arrays


@pytest.mark.slow
def test_the_real_words(real_data):
    data = words(real_data, batch_size=20, steps=35)
    told = [int((y != PADDING).sum()) for y in (data.arrays.train_y, data.arrays.validation_y, data.arrays.test_y)]
    assert told == [929_588, 73_759, 82_429]
    assert len(data.words) == 10_000
