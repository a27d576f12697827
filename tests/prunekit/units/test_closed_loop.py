"""Closed-loop repair: what can be said exactly is said exactly, and what is held out is not fitted to."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from prunekit.calibration import Calibration
from prunekit.units.closed_loop import close_loop
from prunekit.units.network_units import NetworkUnits
from prunekit.units.refitting import RIDGES, Sums, best_refit, refit
from tests.end_to_end.killing import CONTEXT

KINDS = {"lstm": (nn.LSTM, 4), "gru": (nn.GRU, 3), "rnn": (nn.RNN, 1)}
TINY = (1e-9,)


class Net(nn.Module):
    """A recurrent layer and what reads its last step."""

    def __init__(self, kind="lstm", units=5, layers=1, bidirectional=False):
        super().__init__()
        self.memory = KINDS[kind][0](3, units, layers, batch_first=True, bidirectional=bidirectional)
        self.say = nn.Linear(units * (2 if bidirectional else 1), 2)

    def forward(self, x):
        return self.say(self.memory(x)[0])


def twice(net, kind):
    """The same function with every unit there twice, each copy read by half of the weight."""
    gates, units = KINDS[kind][1], net.memory.hidden_size
    made = Net(kind, 2 * units).to(next(net.parameters()).dtype)
    with torch.no_grad():
        for name, parameter in net.memory.named_parameters():
            rows = parameter.view(gates, units, -1)
            rows = torch.cat([rows, rows], 1)
            if "weight_hh" in name:
                rows = torch.cat([rows, rows], 2) / 2
            made.memory.get_parameter(name).copy_(rows.reshape(made.memory.get_parameter(name).shape))
        made.say.weight.copy_(torch.cat([net.say.weight, net.say.weight], 1) / 2)
        made.say.bias.copy_(net.say.bias)
    return made


def sequences(count, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(12, 7, 3, dtype=dtype, generator=generator) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_units_that_others_repeat_go_for_nothing(kind):
    torch.manual_seed(0)
    net = Net(kind).double()
    double = twice(net, kind).eval()
    batches, fresh = sequences(8), sequences(1, seed=1)[0]
    assert torch.allclose(double(fresh), net(fresh), atol=1e-12)
    gone = {("memory", 0, 0): torch.arange(10) >= 5}
    cut = copy.deepcopy(double)
    close_loop(cut, gone, Calibration(batches), passes=0)
    found = close_loop(double, gone, Calibration(batches), TINY)
    with torch.no_grad():
        assert float((cut(fresh) - net(fresh)).abs().max()) > 0.01
        assert torch.allclose(double(fresh), net(fresh), atol=1e-5)
        assert not double.memory(fresh)[0][..., 5:].any()
    assert found.errors[1] < 1e-9 < found.errors[0]
    assert (found.best, found.left) == (1, {})


def test_held_out_batches_choose_and_are_not_fitted_to():
    torch.manual_seed(0)
    dense, weights = Net("lstm", 8).double().eval(), []
    gone = {("memory", 0, 0): torch.arange(8) < 3}
    for odd in (0.0, 0.3):
        batches = [batch + odd * (number == 3) for number, batch in enumerate(sequences(4))]
        net = copy.deepcopy(dense)
        close_loop(net, gone, Calibration(batches), (1e-3,))
        weights.append(torch.cat([parameter.detach().flatten() for parameter in net.parameters()]))
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], torch.cat([parameter.detach().flatten() for parameter in dense.parameters()]))


def test_the_best_of_all_passes_is_kept():
    torch.manual_seed(0)
    net = Net("gru", 8, 2, bidirectional=True).eval()
    dense = copy.deepcopy(net)
    batches = sequences(8, torch.float32)
    gone = {part.key: torch.arange(8) < 3 for part in NetworkUnits().parts(net)}
    found = close_loop(net, gone, Calibration(batches), passes=3)
    assert found.errors[found.best] == min(found.errors)
    assert len(found.errors) == 4
    with torch.no_grad():
        pairs = [(dense(batches[n]).double(), net(batches[n]).double()) for n in (3, 7)]
    apart, size = (sum(float(each.square().sum()) for each in some) for some in
                   ([a - b for a, b in pairs], [a for a, _ in pairs]))  # fmt: skip
    assert apart / size == pytest.approx(found.errors[found.best], rel=1e-4)
    assert set(found.ridges) == {*gone, ("say", 0, 0)}
    assert set(found.ridges.values()) <= set(RIDGES)


def test_layers_that_share_weights_are_left_and_named():
    torch.manual_seed(0)
    net = Net("lstm", 4)
    net.again = nn.Linear(4, 2)
    net.again.weight = net.say.weight
    before = net.say.weight.detach().clone()
    found = close_loop(net.eval(), {("memory", 0, 0): torch.arange(4) < 1}, Calibration(sequences(4, torch.float32)))
    assert found.left == {"say": "shares weights with another layer"}
    assert torch.equal(net.say.weight, before)


def test_a_refit_is_least_squares_with_a_ridge_towards_the_present_weights():
    rng = np.random.default_rng(0)
    r, z, now = rng.standard_normal((40, 6)), rng.standard_normal((40, 3)), rng.standard_normal((3, 6))
    gram, cross = torch.from_numpy(r.T @ r), torch.from_numpy(z.T @ r)
    for ridge in (1e-6, 0.1, 10.0):
        weight = ridge * np.trace(r.T @ r) / 6
        rows = np.concatenate([r, np.sqrt(weight) * np.eye(6)])
        wanted = np.linalg.lstsq(rows, np.concatenate([z, np.sqrt(weight) * now.T]), rcond=None)[0].T
        assert np.allclose(refit(gram, cross, torch.from_numpy(now), ridge), wanted)


def test_the_ridge_is_the_one_with_the_least_error_on_what_is_held_out():
    rng = np.random.default_rng(0)
    now = torch.from_numpy(rng.standard_normal((2, 30)))
    true = now + 0.1 * torch.from_numpy(rng.standard_normal((2, 30)))

    def sums(n, noise):
        r = torch.from_numpy(rng.standard_normal((n, 30)))
        z = r @ true.T + noise * torch.from_numpy(rng.standard_normal((n, 2)))
        return Sums(r.T @ r, z.T @ r)

    few, held = sums(31, 1.0), sums(5000, 0.0)
    made, ridge = best_refit([few], held, now, RIDGES)
    errors = {each: float((refit(few.gram, few.cross, now, each) - true).norm()) for each in RIDGES}
    assert ridge == min(errors, key=errors.get) > min(RIDGES)
    assert float((made - true).norm()) == errors[ridge]
    assert best_refit([sums(5000, 0.01)], held, now, RIDGES)[1] == min(RIDGES)


def test_without_anything_held_out_each_group_is_left_out_in_turn_and_all_are_fitted_to():
    rng = np.random.default_rng(0)
    now = torch.from_numpy(rng.standard_normal((2, 6)))
    shift = torch.from_numpy(rng.standard_normal((3, 2, 6)))  # each group's own way, which tells nothing of others
    r = torch.from_numpy(rng.standard_normal((3, 50, 6)))
    groups = [Sums(x.T @ x, (x @ (now + 5 * own).T).T @ x) for x, own in zip(r, shift, strict=True)]
    made, ridge = best_refit(groups, None, now, RIDGES)
    assert ridge == max(RIDGES)
    whole = groups[0] + groups[1] + groups[2]
    assert torch.allclose(made, refit(whole.gram, whole.cross, now, ridge))
    alike = [Sums(x.T @ x, (x @ (now + shift[0]).T).T @ x) for x in r]
    assert best_refit(alike, None, now, RIDGES)[1] == min(RIDGES)
    assert best_refit(groups[:1], None, now, RIDGES)[1] == sorted(RIDGES)[len(RIDGES) // 2]


def _on_rank(rank, folder, number):
    """What a rank does with its share of the batches: of two, the first has five and the second three."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=number)

    def add_up(local):
        total = local.clone()
        torch.distributed.all_reduce(total)
        return total

    torch.manual_seed(0)
    net, batches = Net("lstm", layers=2, bidirectional=True).double().eval(), sequences(8)
    own = batches if number == 1 else (batches[:5], batches[5:])[rank]
    # Of all eight and of five none but the fourth, of three the last: the same two whoever has them.
    gone = {("memory", layer, way): torch.arange(5) < 2 for layer in (0, 1) for way in (0, 1)}
    found = close_loop(net, gone, Calibration(own, sum_over_ranks=add_up), (1e-3,))
    torch.save([net.state_dict(), found.errors], f"{folder}/{number}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_ranks_that_share_the_batches_find_what_one_finds(tmp_path):
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        processes = [CONTEXT.Process(target=_on_rank, args=(rank, folder, number)) for rank in range(number)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
    alone, first, second = (torch.load(tmp_path / name) for name in ("1/1-0.pt", "2/2-0.pt", "2/2-1.pt"))
    assert all(torch.equal(first[0][name], second[0][name]) for name in first[0])
    assert first[1] == second[1]
    assert first[1] == pytest.approx(alone[1])
    assert all(torch.allclose(first[0][name], alone[0][name], atol=1e-8) for name in first[0])
