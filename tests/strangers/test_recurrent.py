"""Units of every recurrent network go: exactly 0, cut out without a difference, repaired; or the layer is left."""

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit.calibration import Calibration
from prunekit.criteria.random import Random
from prunekit.criteria.reconstruction import Reconstruction
from prunekit.pruning import prune
from prunekit.units.compaction import compact, difference
from prunekit.units.network_units import NetworkUnits
from prunekit.units.watching import watching
from tests.strangers.recurrent import KINDS, READOUTS, STEPS, Plan, Stranger

ROUNDING = {torch.float32: 1e-6, torch.float64: 1e-12}
PLANS = st.builds(
    Plan, kind=st.sampled_from([*KINDS]), layers=st.integers(1, 3), bidirectional=st.booleans(), bias=st.booleans(),
    batch_first=st.booleans(), packed=st.booleans(), stateful=st.booleans(), looped=st.booleans(),
    readout=st.sampled_from(READOUTS),
).filter(lambda plan: not (plan.packed and not plan.batch_first))  # fmt: skip


def cut_apart(plan: Plan, dtype: torch.dtype, rate: float, seed: int) -> float:
    """Prune, look at the units, cut, count; how far the outputs of masked and cut network are apart."""
    torch.manual_seed(seed)
    net = Stranger(plan).to(dtype).eval()
    batches = [torch.randn(5, STEPS, 3, dtype=dtype) for _ in range(2)]
    grouping, calibration = NetworkUnits(), Calibration(batches)
    links = [link for part in grouping.parts(net) for link in grouping.links(net, part, calibration)]
    pruned = prune(net, grouping, Random(seed), rate, scope="within")
    assert int(pruned.goes.sum()) == sum(round(rate * part.units) for part in grouping.parts(net))
    with torch.no_grad():
        with watching(net, ["memory", *(["cell"] if plan.looped else [])]) as seen:
            masked = net(batches[0])
        gone = dict(zip([p.key for p in grouping.parts(net)], pruned.goes.split([p.units for p in grouping.parts(net)]),
                        strict=True))  # fmt: skip
        assert seen.keys() == gone.keys()
        for key, calls in seen.items():
            for call in calls:
                assert not call.outputs[:, gone[key]].any()
        made = compact(net, links)
        apart = difference(masked, made.module(batches[0]))
    left = sum(max(1, int(stays.sum())) for stays in (~each for each in gone.values()))
    counts = [getattr(part, "hidden_size", 0) * (2 if getattr(part, "bidirectional", False) else 1)
              * getattr(part, "num_layers", 1) for part in made.module.modules()
              if isinstance(part, nn.RNNBase | nn.RNNCellBase)]  # fmt: skip
    assert sum(counts) == left
    return apart


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(PLANS, st.sampled_from([torch.float32, torch.float64]), st.sampled_from([0.2, 0.5, 0.8, 1.0]), st.integers(0, 9))
def test_removed_units_are_0_and_can_be_cut_out(plan, dtype, rate, seed):
    assert cut_apart(plan, dtype, rate, seed) <= ROUNDING[dtype]


@pytest.mark.slow
@settings(max_examples=300, deadline=None, derandomize=False, suppress_health_check=[HealthCheck.too_slow])
@given(
    PLANS, st.sampled_from([torch.float32, torch.float64]), st.sampled_from([0.2, 0.5, 0.8, 1.0]), st.integers(0, 99)
)
def test_removed_units_are_0_and_can_be_cut_out_of_300_networks(plan, dtype, rate, seed):
    assert cut_apart(plan, dtype, rate, seed) <= ROUNDING[dtype]


@pytest.mark.parametrize("plan", [
    Plan("lstm", 2, bidirectional=True), Plan("gru", 2, packed=True, readout="mean"), Plan("rnn", looped=True),
    Plan("lstm", stateful=True, readout="attention"), Plan("gru", bias=False, readout="flat"),
])  # fmt: skip
def test_what_is_seen_of_units_is_what_they_gave(plan):
    torch.manual_seed(0)
    net = Stranger(plan).double().eval()
    batches = [torch.randn(4, STEPS, 3, dtype=torch.float64) for _ in range(2)]
    outputs = []
    net.memory.register_forward_hook(lambda *args: outputs.append(args[2][0]))
    seen = NetworkUnits(["memory"]).observe(net, frozenset({"moments", "outputs"}), Calibration(batches))
    flat = [each.data if not isinstance(each, torch.Tensor) else each.reshape(-1, each.shape[-1]) for each in outputs]
    last = torch.cat(flat)
    width = net.memory.hidden_size
    for direction, moments in enumerate(seen.moments[-2:] if plan.bidirectional else seen.moments[-1:]):
        own = last[:, direction * width : (direction + 1) * width]
        assert int(moments.read.count) == len(own)
        assert torch.allclose(moments.read.covariance(), own.T.cov(correction=0), atol=1e-12)
    assert seen.outputs.counts(16).sum(1).tolist() == [len(last)] * sum(
        p.units for p in NetworkUnits(["memory"]).parts(net)
    )


def test_what_was_fed_back_of_packed_sequences_are_the_outputs_a_step_before():
    torch.manual_seed(0)
    net = Stranger(Plan("gru", bidirectional=True, packed=True)).double().eval()
    x = torch.randn(4, STEPS, 3, dtype=torch.float64)
    with torch.no_grad(), watching(net, ["memory"]) as seen:
        net(x)
    for direction in (0, 1):
        (call,) = seen["memory", 0, direction]
        found = {}
        for number in range(4):  # each sequence by itself, unpacked
            own = x[number, : number % STEPS + 1]
            alone = copy.deepcopy(net.memory)(own[None])[0][0, :, direction * 6 : direction * 6 + 6].detach()
            zero = torch.zeros(1, 6, dtype=torch.float64)
            before = torch.cat([zero, alone[:-1]]) if direction == 0 else torch.cat([alone[1:], zero])
            for row, read, earlier in zip(own, alone, before, strict=True):
                found[tuple(row.tolist())] = read, earlier
        assert len(call.inputs) == 1 + 2 + 3 + 4
        for row, read, earlier in zip(call.inputs, call.outputs, call.earlier, strict=True):
            assert torch.allclose(read, found[tuple(row.tolist())][0])
            assert torch.allclose(earlier, found[tuple(row.tolist())][1])


@pytest.mark.parametrize("plan", [
    Plan("lstm"), Plan("gru", 2, bidirectional=True), Plan("rnn", looped=True), Plan("lstm", 2, readout="attention"),
    Plan("gru", packed=True, readout="mean"), Plan("lstm", stateful=True), Plan("gru", bias=False, looped=True),
])  # fmt: skip
def test_closed_loop_brings_outputs_nearer_than_cutting_alone(plan):
    from prunekit.units.repair import ClosedLoop

    torch.manual_seed(0)
    dense = Stranger(plan, units=16).eval()
    batches = [torch.randn(40, STEPS, 3) for _ in range(8)]
    fresh = torch.randn(200, STEPS, 3)
    apart = {}
    for name, repair in (("none", None), ("closed", ClosedLoop())):
        net = copy.deepcopy(dense)
        prune(net, NetworkUnits(), Reconstruction(), 0.4, batches, repair=repair, scope="within")
        with torch.no_grad():
            apart[name] = float((net(fresh) - dense(fresh)).square().sum())
    assert apart["closed"] < 0.6 * apart["none"], apart


def test_batches_in_another_order_each_time_are_refused_where_they_are_not_kept():
    from prunekit.units.closed_loop import close_loop

    class Shuffled:
        def __iter__(self):
            return iter([torch.randn(4, STEPS, 3) for _ in range(4)])

    torch.manual_seed(0)
    net = Stranger(Plan("gru")).eval()
    gone = {("memory", 0, 0): torch.arange(6) < 3}
    with pytest.raises(ValueError, match="same, in the same order"):
        close_loop(net, gone, Calibration(Shuffled()))


@pytest.mark.parametrize("plan", [
    Plan("lstm", 2), Plan("gru", batch_first=False, readout="each step"), Plan("rnn", looped=True, readout="each step"),
])  # fmt: skip
def test_padding_counts_for_nothing_where_valid_steps_are_told(plan):
    torch.manual_seed(0)
    net = Stranger(plan).double().eval()
    x = torch.randn(4, STEPS, 3, dtype=torch.float64)
    valid = torch.arange(STEPS) < torch.tensor([5, 3, 2, 4])[:, None]
    wanted = frozenset({"moments", "outputs"})
    told, other = (
        NetworkUnits().observe(net, wanted, Calibration([batch], valid=lambda _: valid))
        for batch in (x, torch.where(valid[..., None], x, 9.0))
    )
    for one, two in zip(told.moments, other.moments, strict=True):
        assert int(one.read.count) == int(valid.sum())
        assert torch.allclose(one.read.products, two.read.products)
    alone = NetworkUnits().observe(net, wanted, Calibration([x]))
    assert int(alone.moments[0].read.count) == 4 * STEPS
