import io
import zlib

import numpy as np
import pytest
import torch
from scipy.io import savemat

from prunekit.data_modules.piano_rolls import MOST_BYTES, PianoRolls, check_unpacked
from prunekit.errors import ArgumentError
from tests.data_modules.tasks import rolls, write_rolls


def pieces(root, name="jsb", **arguments):
    return PianoRolls(str(root), name, **{"batch_size": 4, "seed": 0, **arguments})


def test_steps_and_those_that_follow_them_padded_to_a_batchs_longest(tmp_path):
    write_rolls(tmp_path)
    data = pieces(tmp_path, eval_batch_size=3)
    data.setup()
    wanted = rolls(20)
    seen = 0
    for x, y in data.scoring_dataloader():
        valid = data.valid((x, y))
        own = wanted[seen : seen + len(x)]
        assert x.shape == y.shape == (len(own), max(map(len, own)) - 1, 88)
        assert x.dtype == y.dtype == torch.float32
        for row, piece in enumerate(own):
            steps = len(piece) - 1
            assert valid[row].tolist() == [True] * steps + [False] * (x.shape[1] - steps)
            assert np.array_equal(x[row, :steps], piece[:-1])
            assert np.array_equal(y[row, :steps], piece[1:])
            assert not x[row, steps + 1 :].any()
        seen += len(x)
    assert seen == 20
    assert [sum(len(y) for _, y in each) for each in (data.val_dataloader(), data.test_dataloader())] == [6, 6]
    assert data.model_arguments() == {"inputs": 88, "outputs": 88}


def test_each_name_has_its_file(tmp_path):
    write_rolls(tmp_path, "Nottingham", train=5)
    assert len(pieces(tmp_path, "nottingham").arrays.train_y) == 5
    with pytest.raises(ArgumentError, match=r"^data_dir: .*JSB_Chorales\.mat .*No such file"):
        _ = pieces(tmp_path).arrays
    with pytest.raises(ArgumentError, match=r"^pieces: "):
        pieces(tmp_path, "bach")


def odd(number):
    roll = rolls(1)[0].astype(float)
    roll[0, 0] = number
    return [roll]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"testdata": []}, "20, 0, 6 pieces"),
        ({"traindata": [np.zeros((5, 87), np.uint8)]}, r"shape \(5, 87\)"),
        ({"traindata": [np.zeros((1, 88), np.uint8)]}, r"shape \(1, 88\)"),
        ({"validdata": odd(2.0)}, "other numbers"),
        ({"validdata": odd(np.nan)}, "other numbers"),
    ],
)
def test_odd_pieces_are_refused(tmp_path, changes, why):
    write_rolls(tmp_path, **changes)
    with pytest.raises(
        ArgumentError, match=f"^data_dir: .*JSB_Chorales.*{why}.*accepted: a file of data_dir/poly_music"
    ):
        _ = pieces(tmp_path).arrays


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "other", "huge"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = write_rolls(tmp_path)
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(
        {
            "empty": b"", "cut": content[:half], "flipped": content[:half] + bytes(len(content) - half),
            "other": b"\x00" * 2000, "huge": bytes(MOST_BYTES + 1),
        }[damage]
    )  # fmt: skip
    with pytest.raises(ArgumentError, match=r"^data_dir: .*JSB_Chorales\.mat"):
        _ = pieces(tmp_path).arrays


def test_without_a_part_the_file_is_refused(tmp_path):
    path = write_rolls(tmp_path)
    savemat(path, {"traindata": np.zeros(3)})
    with pytest.raises(ArgumentError, match=r"^data_dir: .*JSB_Chorales\.mat"):
        _ = pieces(tmp_path).arrays


def test_what_unpacks_to_more_than_it_should_is_not_unpacked():
    file = io.BytesIO()
    savemat(file, {"x": np.zeros(2**17)}, do_compression=True)
    content = file.getvalue()
    assert len(content) < 5000
    check_unpacked(content, 2**21)
    with pytest.raises(ValueError, match="when unpacked"):
        check_unpacked(content, 2**19)
    many = content[:128] + 10 * content[128:]
    with pytest.raises(ValueError, match="when unpacked"):
        check_unpacked(many, 2**22)
    packed = zlib.compress(bytes(2**20))
    big = b"\x00" * 126 + b"MI" + (15).to_bytes(4, "big") + len(packed).to_bytes(4, "big") + packed
    with pytest.raises(ValueError, match="when unpacked"):
        check_unpacked(big, 2**19)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "counts", "steps"), [("jsb", [229, 76, 77], 160), ("nottingham", [694, 173, 170], 1793)]
)
def test_real_pieces(real_data, name, counts, steps):
    arrays = pieces(real_data, name).arrays
    assert [len(y) for y in (arrays.train_y, arrays.validation_y, arrays.test_y)] == counts
    assert arrays.train_x.shape[1:] == (steps, 88)
