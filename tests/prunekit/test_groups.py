"""Groups of single weights, and what removing groups does to a mask."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from prunekit.calibration import Calibration
from prunekit.criteria.magnitude import Magnitude
from prunekit.errors import ArgumentError
from prunekit.groups import Grouping, Groups, Weights
from prunekit.masks import Mask
from prunekit.pruning import prune
from prunekit.selection import exact_count


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))


def test_weights_are_numbered_one_parameter_after_the_other():
    net = network()
    kept = {"0.weight": torch.rand(5, 7) < 0.5, "2.weight": torch.rand(3, 5) < 0.5}
    groups = Weights()(net, Mask(kept))
    assert torch.cat([number.flatten() for number in groups.numbers.values()]).tolist() == list(range(50))
    assert {name: number.shape for name, number in groups.numbers.items()} == {"0.weight": (5, 7), "2.weight": (3, 5)}
    assert torch.equal(groups.gone, torch.cat([~each.flatten() for each in kept.values()]))
    assert groups.within.tolist() == [0] * 35 + [1] * 15
    assert groups.sizes.tolist() == [1] * 50


def test_weights_are_those_named_or_all():
    net = network()
    assert Weights().parameters(net) == ["0.weight", "2.weight"]
    assert Weights(["2.weight", "0.bias"]).parameters(net) == ["2.weight", "0.bias"]
    with pytest.raises(
        ArgumentError, match=r"^parameters: got '2\.wieght'; accepted: .*; no parameter .*nearest: 2\.weight"
    ):
        Weights(["0.weight", "2.wieght"]).parameters(net)
    with pytest.raises(ArgumentError, match=r"^parameters: got None; accepted: .*: the module has no weights"):
        Weights().parameters(nn.BatchNorm1d(3))
    with pytest.raises(
        ArgumentError, match=r"^criterion: got 'one that looks at outputs'; accepted: one of weights alone"
    ):
        Weights().check(net, frozenset({"outputs"}))
    with pytest.raises(NotImplementedError, match="Weights has nothing to look at"):
        Weights().observe(net, frozenset(), Calibration([]))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.77, 1.0])
def test_the_smallest_of_all_weights_together_go(rate):
    net = network()
    flat = torch.cat([net[number].weight.detach().abs().flatten() for number in (0, 2)])
    expected = flat.argsort()[: exact_count(rate, 50)]
    mask = prune(net, Weights(), Magnitude(), rate).mask
    gone = torch.cat([~mask[name].flatten() for name in ("0.weight", "2.weight")])
    assert gone.nonzero().flatten().tolist() == sorted(expected.tolist())
    assert torch.equal(torch.cat([net[number].weight.flatten() for number in (0, 2)]) == 0, gone)


def test_two_groupings_of_one_module_remove_exactly_their_own_share():
    net, first = network(), Weights(["0.weight"])
    one = prune(net, first, Magnitude(), 0.1).mask
    other = prune(net, Weights(["2.weight"]), Magnitude(), 0.1, mask=one).mask
    both = one & other
    assert {name: both.removed(name) for name in both} == {
        "0.weight": exact_count(0.1, 35),
        "2.weight": exact_count(0.1, 15),
    }
    again = prune(net, first, Magnitude(), 0.1, mask=both).mask
    assert again == one
    more = prune(net, Weights(), Magnitude(), 0.1, mask=both).mask
    assert more.removed() == 6  # as many as are gone already, and 0.1 of 50 are fewer
    assert not any((more[name] & ~both[name]).any() for name in both)


VALUE = st.sampled_from([0.0, 1.5, -2.0])


@given(
    st.lists(st.tuples(st.integers(-1, 3), st.booleans(), VALUE, VALUE), min_size=1, max_size=15),
    st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_what_goes_now_is_held_at_its_constant_and_what_was_gone_as_it_was(entries, more):
    number, kept, held, constant = (torch.tensor(column) for column in zip(*entries, strict=True))
    gone = torch.tensor([bool((number == group).any() and not kept[number == group].any()) for group in range(4)])
    goes = gone | torch.tensor(more)
    groups = Groups({"w": number}, torch.bincount(number + 1, minlength=5)[1:], torch.zeros(4, dtype=torch.int64), gone)
    mask = groups.remove(goes, Mask({"w": kept}, {"w": held}), {"w": constant.double()})
    for entry, (group, was_kept, was_held, value) in enumerate(entries):
        now = group >= 0 and bool(goes[group])
        assert mask["w"][entry] == (was_kept and not now)
        if not mask["w"][entry]:
            new = now and not gone[group]
            found = mask.held["w"][entry] if "w" in mask.held else 0.0
            assert found == (value if new else was_held if not was_kept else 0.0)


class Channels(Grouping):
    """The output channels of a convolution, each with its bias: a user's own."""

    word = "channel"

    def __init__(self, layer):
        self.layer = layer

    def parameters(self, module):
        return [f"{self.layer}.weight", f"{self.layer}.bias"]

    def __call__(self, module, mask):
        weight, bias = (mask[name] for name in self.parameters(module))
        number = torch.arange(len(weight))
        sizes = torch.full_like(number, weight[0].numel() + 1)
        numbers = {f"{self.layer}.weight": number.view(-1, 1, 1, 1), f"{self.layer}.bias": number}
        return Groups(numbers, sizes, torch.zeros_like(number), ~(weight.flatten(1).any(1) | bias))


@pytest.mark.parametrize("reduction", ["mean", "sum", "max"])
def test_a_users_own_grouping_is_all_that_pruning_wants(reduction):
    torch.manual_seed(0)
    net, channels = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), Channels("0")
    whole = torch.cat([net[0].weight.flatten(1), net[0].bias[:, None]], 1).detach().abs().double()
    sizes = {"mean": whole.mean(1), "sum": whole.sum(1), "max": whole.amax(1)}[reduction]
    pruned = prune(net, channels, Magnitude(reduction), 0.5)
    assert torch.allclose(pruned.scores.values, sizes)
    assert set(pruned.goes.nonzero().flatten().tolist()) == set(sizes.argsort()[:4].tolist())
    assert torch.equal((net(torch.randn(5, 3, 6, 6)) == 0).all(0).flatten(1).all(1), pruned.goes)
    assert torch.equal(channels(net, pruned.mask).gone, pruned.goes)
    assert pruned.mask == channels.mask(net, pruned.goes)
    further = prune(net, channels, Magnitude(reduction), 0.75, mask=pruned.mask)
    assert int(further.goes.sum()) == 6
    assert further.goes[pruned.goes].all()


NUMBERS, NONE = torch.tensor([[0, 0, -1], [1, 1, 1]]), torch.tensor([False, False])
FITS = {"numbers": {"w": NUMBERS}, "sizes": torch.tensor([2, 3]), "within": torch.tensor([0, 0]), "gone": NONE}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numbers": {"w": NUMBERS.float()}}, r"numbers of w of torch\.float32"),
        ({"numbers": {"w": NUMBERS + 1}}, "numbers of w of torch.int64'; accepted: numbers of int64 from 0 to 1"),
        ({"numbers": {"v": NUMBERS}}, "numbers of v'; accepted: those of w"),
        ({"numbers": {"w": NUMBERS[:, :2]}}, "broadcast"),
        ({"sizes": torch.tensor([3, 3])}, "group 0 has 2 entries and a size of 3"),
        ({"sizes": [2, 3]}, "sizes are a list"),
        ({"within": torch.tensor([0])}, r"within are a Tensor of torch\.int64, \(1,\)"),
        ({"gone": torch.tensor([0, 0])}, r"gone are a Tensor of torch\.int64"),
        ({"gone": ~NONE}, "groups are gone that are kept"),
    ],
)
def test_groups_that_contradict_themselves_are_refused_by_name(change, message):
    before = Mask({"w": torch.ones(2, 3, dtype=torch.bool)})
    Groups(**FITS).check(before)
    with pytest.raises(ArgumentError, match=f"^grouping: got .*{message}"):
        Groups(**FITS | change).check(before)
