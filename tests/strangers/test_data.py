"""Data and outputs of forms that are not prunekit's: each is measured exactly, or refused before training."""

from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from prunekit.callbacks.confusion import Confusion
from prunekit.callbacks.curves import Curves
from prunekit.callbacks.l2_mask import L2Mask
from prunekit.callbacks.measure import _of_this_rank, accuracy
from prunekit.callbacks.progress import StageProgress
from prunekit.errors import ArgumentError
from tests.callbacks.lightning import Foreign, TheirData, Theirs, trainer

X, Y = TheirData().data.tensors
# Of a module with a validation_step and no data for it.
LIGHTNINGS_HINT = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
TEST_X, TEST_Y = X[:41].flip(-1), Y[:41]


def loader(*tensors, size=20, **arguments):
    return DataLoader(TensorDataset(*tensors), size, **arguments)


def fit(folder, module, *loaders, curves=None, more=(), **named):
    curves = curves or Curves()
    name = next(name for name, parameter in module.named_parameters() if parameter.ndim > 1)
    one = trainer(folder, [L2Mask([name], 0.5, start_epoch=1), curves, *more], 2)
    one.fit(module, *loaders, **named)
    module.eval()
    return curves


@torch.no_grad()
def share(module, x=X, y=Y):
    return float((module(x).argmax(-1) == y).double().mean())


def test_a_plain_dataloader_is_measured_on_the_validation_data_it_comes_with(tmp_path):
    module = Theirs(lr=0.01)
    curves = fit(tmp_path, module, loader(X, Y, shuffle=True), loader(TEST_X, TEST_Y, size=7))
    assert curves.rows[-1]["accuracy"] == share(module, TEST_X, TEST_Y) < 1
    assert curves.rows[-1]["accuracy"] != share(module)
    (event,) = curves.events
    assert (event["data"], event["test_acc"], curves.final_test) == ("validation", None, None)


class WithLoaders(Theirs):
    def train_dataloader(self):
        return loader(X, Y)

    def test_dataloader(self):
        return [loader(TEST_X[:11], TEST_Y[:11]), loader(TEST_X[11:], TEST_Y[11:], size=9)]


@LIGHTNINGS_HINT
def test_a_module_that_brings_its_data_is_measured_on_test_data_where_none_is_held_out(tmp_path):
    module = WithLoaders(lr=0.01)
    curves = fit(tmp_path, module)
    assert curves.events[0]["data"] == "test"
    assert curves.rows[-1]["accuracy"] == curves.final_test == share(module, TEST_X, TEST_Y)


@LIGHTNINGS_HINT
def test_data_with_nothing_to_measure_on_is_refused_before_training(tmp_path):
    module = Theirs(lr=0.01)
    before = module.stem.weight.clone()
    with pytest.raises(ArgumentError, match=r"^data: got 'no validation data and no test data'; .*val_dataloader") as e:
        fit(tmp_path, module, loader(X, Y))
    assert isinstance(e.value.owner, Curves)
    assert torch.equal(module.stem.weight, before)


class Stream(IterableDataset):
    def __iter__(self):
        return zip(X, Y, strict=True)


def test_a_stream_is_measured_and_shown_in_a_bar(tmp_path):
    module, bar = Theirs(lr=0.01), StageProgress()
    one = trainer(tmp_path, [Curves(), bar], 2, enable_progress_bar=True)
    one.fit(module, DataLoader(Stream(), 30), DataLoader(Stream(), 40))
    module.eval()
    assert one.callbacks[0].rows[-1]["accuracy"] == share(module)


class Dicts(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return {"pixels": X[index], "label": Y[index], "name": str(index)}


class OfDicts(Theirs):
    def training_step(self, batch, batch_idx):
        return super().training_step((batch["pixels"], batch["label"]), batch_idx)


def predict_dict(module, batch):
    return module(batch["pixels"]), batch["label"]


def test_dicts_are_measured_with_a_function_of_ones_own_and_refused_without(tmp_path):
    module, dicts = OfDicts(lr=0.01), DataLoader(Dicts(), 30)
    name = r"^predict: got 'none, while a batch is a dict with pixels, label, name'; accepted: a function predict"
    with pytest.raises(ArgumentError, match=name):
        fit(tmp_path, module, dicts, dicts)
    confusion = Confusion(draw=False)
    curves = fit(tmp_path, module, dicts, dicts, curves=Curves(predict=predict_dict), more=[confusion])
    assert curves.rows[-1]["accuracy"] == share(module)
    assert (tmp_path / "confusion.npy").exists()


def test_further_entries_of_a_batch_are_left_alone(tmp_path):
    module = Theirs(lr=0.01)
    three = loader(X, Y, torch.arange(90))
    assert fit(tmp_path, module, three, three).rows[-1]["accuracy"] == share(module)


class Steps(Foreign):
    """A classifier of every step of a sequence, or of its end."""

    def __init__(self, outputs=3):
        super().__init__(torch.optim.SGD, lr=0.1)
        self.rnn, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.rnn(x)[0])

    def training_step(self, batch, batch_idx):
        logits, y = self(batch[0]), batch[1]
        return nn.functional.cross_entropy(*((logits.mT, y) if y.ndim > 1 else (logits[:, -1], y)))


def test_every_step_counts_where_every_step_has_a_class(tmp_path):
    module, every = Steps(), Y[:, None].repeat(1, 6)
    every[::2, 4:] = -100  # padding, which cross entropy leaves out
    batches = loader(X, every)
    curves = fit(tmp_path, module, batches, batches)
    with torch.no_grad():
        right = (module(X).argmax(-1) == every)[every >= 0]
    assert curves.rows[-1]["accuracy"] == float(right.double().mean())
    one = trainer(tmp_path, [Curves(lambda module, batch: (module(batch[0]).mT, batch[1]))], 0)  # (n, classes, T)
    one.fit(module, batches, batches)
    assert accuracy(one, module, "validation", one.callbacks[0].predict) == curves.rows[-1]["accuracy"]


def test_the_last_step_counts_where_a_sequence_has_one_class(tmp_path):
    module = Steps()
    curves = fit(tmp_path, module, loader(X, Y), loader(X, Y))
    assert curves.rows[-1]["accuracy"] == share(lambda x: module(x)[:, -1])


class OneLogit(Theirs):
    def forward(self, x):
        return super().forward(x)[:, :1]

    def training_step(self, batch, batch_idx):
        return nn.functional.binary_cross_entropy_with_logits(self(batch[0])[:, 0], batch[1])


def test_one_logit_is_refused_by_name_and_measured_as_two(tmp_path):
    batches = loader(X, (Y > 0).float())
    got = r"^predict: got 'logits \(20, 1\) with float32 classes \(20,\)'; .*torch\.stack\(\[torch\.zeros_like\(z\), z"
    with pytest.raises(ArgumentError, match=got):
        fit(tmp_path, OneLogit(lr=0.01), batches, batches)

    def predict(module, batch):
        z = module(batch[0])[:, 0]
        return torch.stack([torch.zeros_like(z), z], 1), batch[1].long()

    module = OneLogit(lr=0.01)
    curves = fit(tmp_path, module, batches, batches, curves=Curves(predict))
    with torch.no_grad():
        assert curves.rows[-1]["accuracy"] == float(((module(X)[:, 0] > 0) == (Y > 0)).double().mean())


def test_data_of_ones_own_takes_the_place_of_all_loaders(tmp_path):
    module = Theirs(lr=0.01)

    def data(trainer, part):
        return [(TEST_X, TEST_Y)] if part == "test" else None

    curves = fit(tmp_path, module, loader(X, Y), loader(X, Y), curves=Curves(data=data))
    assert curves.events[0]["data"] == "test"
    assert curves.final_test == share(module, TEST_X, TEST_Y)


def test_a_yaml_can_name_the_functions():
    function = {"_target_": "tests.strangers.test_data.predict_dict", "_partial_": True}
    curves = instantiate({"_target_": "prunekit.callbacks.curves.Curves", "predict": function})
    logits, classes = curves.predict(torch.neg, {"pixels": X, "label": Y})
    assert torch.equal(logits, -X)
    assert classes is Y


class Frozen(Theirs):
    """With a part that stays in evaluation mode, and dropout."""

    def __init__(self):
        super().__init__(lr=0.1)
        self.norm, self.dropout = nn.BatchNorm2d(1).eval(), nn.Dropout(0.5)
        self.modes = set()

    def forward(self, x):
        self.modes.add((self.training, self.norm.training))
        return super().forward(self.dropout(self.norm(x[:, None])[:, 0]))


def test_measuring_leaves_training_as_it_was(tmp_path):
    shuffled, weights = loader(X, Y, shuffle=True), []
    for callbacks in ([], [Curves()]):
        torch.manual_seed(5)
        module = Frozen()
        with pytest.warns(UserWarning, match="in eval mode"):
            trainer(tmp_path, callbacks, 2).fit(module, shuffled, shuffled)
        weights.append(module.state_dict())
        assert (True, True) not in module.modes
    assert (False, False) in module.modes
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_ranks_share_a_dataloader_and_take_what_is_already_shared_out():
    ranks = [SimpleNamespace(world_size=3, global_rank=rank) for rank in range(3)]
    batches = [[y.tolist() for (y,) in _of_this_rank(rank, loader(torch.arange(7), size=2))] for rank in ranks]
    assert batches == [[[0, 1], [6]], [[2, 3]], [[4, 5]]]
    stream = DataLoader(Stream(), 30)
    assert _of_this_rank(ranks[1], stream) is stream
    (rest,) = [list(_of_this_rank(ranks[2], loader(torch.arange(4), size=2)))]
    assert rest == []  # a rank may have none


def test_manual_optimization_has_no_mean_loss_but_accuracies(tmp_path):
    class Manual(Theirs):
        def training_step(self, batch, batch_idx):
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    module = Manual(lr=0.01)
    module.automatic_optimization = False
    curves = fit(tmp_path, module, loader(X, Y), loader(X, Y))
    assert curves.rows[-1]["accuracy"] == share(module)
    assert curves.rows[-1]["loss"] != curves.rows[-1]["loss"]  # not a number
