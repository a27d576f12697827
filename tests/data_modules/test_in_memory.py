import pytest
import torch

from prunekit.data_modules.digits import Digits
from prunekit.data_modules.in_memory import Arrays, check_arrays
from prunekit.errors import ArgumentError


def test_digits_are_real_images_between_0_and_1():
    x, y, test_x, test_y = Digits(10, 0.0, seed=0).arrays[:4]
    assert x.shape == (1437, 28, 28)
    assert test_x.shape == (360, 28, 28)
    assert x.dtype == torch.float32
    assert (x.min(), x.max()) == (0, 1)
    assert set(y.tolist()) == set(test_y.tolist()) == set(range(10))


def test_the_held_out_part_is_disjoint_and_the_same_for_every_seed():
    parts = []
    for seed in (0, 1):
        digits = Digits(10, 0.1, seed)
        digits.setup()
        held_out = torch.cat([x for x, _ in digits.val_dataloader()])
        trained = torch.cat([x for x, _ in digits.train_dataloader()])
        assert len(held_out) == 144
        assert len(trained) == 1437 - 144
        together = torch.cat([held_out, trained]).flatten(1)
        assert len(together.unique(dim=0)) == len(digits.arrays.train_x.flatten(1).unique(dim=0))
        parts.append(held_out)
    assert torch.equal(*parts)


def test_nothing_held_out_means_no_validation_loader():
    digits = Digits(10, 0.0, seed=0)
    digits.setup()
    assert digits.val_dataloader() == []
    assert sum(len(y) for _, y in digits.test_dataloader()) == 360


def test_the_fingerprint_tells_data_apart():
    assert Digits(10, 0.0, 0).fingerprint() == Digits(7, 0.5, 1).fingerprint()
    assert Digits(10, 0.0, 0).fingerprint() != Digits(10, 0.0, 0, size=20).fingerprint()


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ((0, 0.0, 0), "^batch_size"),
        ((10, 1.0, 0), "^validation"),
        ((10, float("nan"), 0), "^validation"),
        ((10, 0.1, -1), "seed"),
        ((10, 0.1, 0, 4), "^size"),
    ],
)
def test_wrong_arguments_name_their_key(arguments, key):
    with pytest.raises(ArgumentError, match=key):
        Digits(*arguments)


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ArgumentError, match=r"^batch_size: got 2000; accepted: at most the 1437"):
        Digits(2000, 0.0, seed=0).setup()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_x": torch.zeros(5, 2, dtype=torch.float64)}, "train_x is a .*int64 tensor, got torch.float64"),
        ({"test_y": torch.zeros(3, dtype=torch.int32)}, "test_y is a torch.int64 tensor, got torch.int32"),
        ({"train_y": [0] * 5}, "train_y is a torch.int64 tensor, got <class 'list'>"),
        ({"train_y": torch.zeros(4, dtype=torch.int64)}, "do not go together"),
        ({"test_x": torch.zeros(3, 4)}, "do not go together"),
    ],
)
def test_arrays_that_do_not_go_together_are_named(change, message):
    good = Arrays(torch.zeros(5, 2), torch.zeros(5).long(), torch.zeros(3, 2), torch.zeros(3).long())
    assert check_arrays(good) is good
    with pytest.raises((TypeError, ValueError), match=message):
        check_arrays(good._replace(**change))
