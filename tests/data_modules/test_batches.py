from itertools import chain

import pytest
import torch

from prunekit.data_modules.batches import TensorBatches, epoch_order


def samples(batches: TensorBatches) -> list[list[int]]:
    return [y.tolist() for _, y in batches]


def make(n: int = 23, **arguments) -> TensorBatches:
    return TensorBatches(torch.arange(float(n)), torch.arange(n), batch_size=4, **arguments)


def test_an_epoch_holds_every_sample_once_and_depends_on_seed_and_epoch_alone():
    batches = make(seed=1)
    first = samples(batches)
    assert sorted(chain(*first)) == list(range(23))
    assert [len(batch) for batch in first] == [4, 4, 4, 4, 4, 3]
    assert len(batches) == 6
    torch.manual_seed(99)
    assert samples(make(seed=1)) == first
    assert samples(make(seed=2)) != first
    batches.set_epoch(1)
    assert samples(batches) != first
    batches.set_epoch(0)
    assert samples(batches) == first
    assert torch.equal(torch.cat([y for _, y in batches]), epoch_order(23, 1, 0))


def test_x_and_y_go_together():
    assert all(torch.equal(x, y.float()) for x, y in make(seed=3))


@pytest.mark.parametrize("done", [1, 5])
def test_it_goes_on_in_the_middle_of_an_epoch(done):
    whole = make(seed=1)
    whole.set_epoch(3)
    expected = samples(whole)
    iterator = iter(whole)
    for _ in range(done):
        next(iterator)
    resumed = make(seed=1)
    resumed.load_state_dict(whole.state_dict())
    resumed.set_epoch(3)
    assert samples(resumed) == expected[done:]
    assert samples(resumed) == expected  # only the first iteration is shortened


def test_a_finished_epoch_resumes_as_a_fresh_one():
    batches = make(seed=1)
    whole = samples(batches)
    resumed = make(seed=1)
    resumed.load_state_dict(batches.state_dict())
    assert samples(resumed) == whole


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_out_the_batches_of_one_process(world):
    alone = samples(make(seed=1))
    ranks = [samples(make(seed=1, rank=rank, world=world)) for rank in range(world)]
    assert len({len(rank) for rank in ranks}) == 1
    for number, batch in enumerate(alone):
        parts = [rank[number] for rank in ranks if number < len(rank)]
        assert len({len(part) for part in parts}) <= 1  # equal parts: their mean gradient is the batch's
        left_out = len(batch) % world
        assert set(chain(*parts)) <= set(batch)
        assert len(list(chain(*parts))) == len(batch) - left_out


def test_evaluation_keeps_the_order_and_leaves_nothing_out():
    assert list(chain(*samples(make()))) == list(range(23))
    ranks = [list(chain(*samples(make(rank=rank, world=3)))) for rank in range(3)]
    assert sorted(chain(*ranks)) == list(range(23))
