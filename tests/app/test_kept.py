"""What a finished run keeps of its network comes back to the bit, or is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from prunekit.app.errors import ConfigError
from prunekit.app.kept import CHANGES, MASKS, digests, load_changes, load_masks, load_network, save_changes, save_masks
from prunekit.digests import tensor_digest
from prunekit.masks import Mask
from prunekit.units.grouping import Gates, Units


@given(st.integers(0, 2**31), st.booleans())
def test_masks_come_back_as_they_were(tmp_path_factory, seed, rows):
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(2, 3, 2))
    kept = {name: torch.rand(p.shape, generator=generator) < 0.5 for name, p in net.named_parameters()}
    if rows:
        kept = {n: k[(slice(None), *[slice(1)] * (k.dim() - 1))].expand_as(k) for n, k in kept.items()}
    path = tmp_path_factory.mktemp("masks") / "masks.safetensors"
    save_masks(path, Mask(kept))
    assert load_masks(path, net) == Mask(kept)
    if rows:
        assert load_file(path)["1.weight"].shape == (3, 1, 1, 1)


def test_a_mask_of_units_is_small_and_broadcasts(tmp_path):
    lstm = nn.LSTM(64, 256)
    kept = torch.arange(1024) % 3 > 0
    shapes = {name: parameter.shape for name, parameter in lstm.named_parameters()}
    mask = Mask({name: kept.view(-1, *[1] * (len(shape) - 1)).expand(shape) for name, shape in shapes.items()})
    save_masks(tmp_path / "m", mask)
    assert (tmp_path / "m").stat().st_size < 5000
    assert torch.equal(load_file(tmp_path / "m")["weight_hh_l0"].expand(1024, 256), mask["weight_hh_l0"])


def test_a_mask_of_another_module_is_refused(tmp_path):
    save_masks(tmp_path / "m", Mask({"weight": torch.tensor([[True, False, True], [False, True, True]])}))
    with pytest.raises(KeyError, match="no parameter 'weight'"):
        load_masks(tmp_path / "m", nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(RuntimeError, match="expand"):
        load_masks(tmp_path / "m", nn.Linear(4, 2))


def network(seed=0):
    torch.manual_seed(seed)
    net = nn.ModuleDict({"lstm": nn.LSTM(3, 6), "norm": nn.BatchNorm1d(6), "head": nn.Linear(6, 2)})
    net.register_buffer("scale", torch.tensor(2.0))
    return net


def copy_of(state):
    return {name: value.clone() for name, value in state.items()}


@torch.no_grad()
def pruned(net):
    """Units 1 and 4 go, gates of others are held at constants, and a repair has changed some columns."""
    gates = Gates("lstm")
    full = Mask.full(net, gates.parameters(net))
    held = gates(net, full).remove(torch.arange(24) % 5 == 0, full, {"lstm.bias_ih_l0": torch.full((24,), 0.3)})
    mask = held & Units("lstm").mask(net, torch.arange(6) % 3 == 1)
    net["head"].weight[:, [0, 5]] += 1.0
    net["head"].bias -= 0.5
    net["lstm"].weight_hh_l0[:, 2] *= 2.0
    net["norm"].num_batches_tracked += 3
    net["norm"].running_mean[4] = 7.0
    net.get_buffer("scale").fill_(5.0)
    mask.apply(net)
    return mask


def leave(folder, net, base, mask):
    save_masks(folder / MASKS, mask)
    save_changes(folder / CHANGES, base, net, mask)
    return digests(net, mask)


def test_changes_are_what_neither_checkpoint_nor_mask_says(tmp_path):
    net = network()
    base = copy_of(net.state_dict())
    mask = pruned(net)
    leave(tmp_path, net, base, mask)
    content = load_file(tmp_path / CHANGES)
    assert {name.rpartition("|")[0] for name in content} == {
        "lstm.weight_hh_l0", "lstm.bias_ih_l0", "head.weight", "head.bias",
        "norm.num_batches_tracked", "norm.running_mean", "scale",
    }  # fmt: skip
    assert content["lstm.weight_hh_l0|columns"].tolist() == [2]
    assert content["head.weight|columns"].tolist() == [0, 5]
    assert content["norm.running_mean|rows"].tolist() == [4]
    other = network(1)
    other.load_state_dict(base)
    load_masks(tmp_path / MASKS, other).apply(other)
    load_changes(tmp_path / CHANGES, other)
    for name, value in net.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


def test_a_network_that_only_lost_weights_has_no_changes(tmp_path):
    net = network()
    base = copy_of(net.state_dict())
    mask = Units("lstm").mask(net, torch.arange(6) < 3)
    mask.apply(net)
    save_changes(tmp_path / "c", base, net, mask)
    assert load_file(tmp_path / "c") == {}
    load_changes(tmp_path / "c", net)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.sampled_from([0.0, 0.02, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0]))
def test_any_changes_come_back_to_the_bit(tmp_path_factory, seed, share, removed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    base = copy_of(net.state_dict())
    mask = Mask({name: torch.rand(p.shape) >= removed for name, p in net.named_parameters() if p.dim() > 1})
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.add_((torch.rand(tensor.shape) < share).to(tensor))
    mask.apply(net)
    path = tmp_path_factory.mktemp("changes") / "changes.safetensors"
    save_changes(path, base, net, mask)
    other = nn.Sequential(nn.Conv2d(2, 3, 2), nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    other.load_state_dict(base)
    mask.apply(other)
    load_changes(path, other)
    assert tensor_digest(other.state_dict()) == tensor_digest(net.state_dict())


def test_a_finished_runs_network_is_loaded_and_nothing_else(tmp_path):
    net = network()
    base = copy_of(net.state_dict())
    mask = pruned(net)
    digest = leave(tmp_path, net, base, mask)
    other = network(1)
    found = load_network(tmp_path, other, base, digest, "run")
    assert dict(found).keys() == dict(mask).keys()
    assert all(torch.equal(found[name], mask[name]) for name in mask)
    assert digests(other, found) == digest
    assert found == mask  # what removed gates are held at is part of it


def lose(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-3])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", [MASKS, CHANGES])
@pytest.mark.parametrize("damage", [lose, cut, flip])
def test_a_folder_that_is_not_whole_is_refused(damage, name, tmp_path):
    net = network()
    base = copy_of(net.state_dict())
    digest = leave(tmp_path, net, base, pruned(net))
    damage(tmp_path / name)
    with pytest.raises(ConfigError, match=r"^run: got .*; accepted: the folder of a finished run, whole"):
        load_network(tmp_path, network(1), base, digest, "run")


def test_another_network_is_refused(tmp_path):
    net = network()
    base = copy_of(net.state_dict())
    digest = leave(tmp_path, net, base, pruned(net))
    for other in (nn.ModuleDict({"lstm": nn.LSTM(3, 6)}), nn.Linear(2, 2)):
        with pytest.raises(ConfigError, match=r"^run: got"):
            load_network(tmp_path, other, base, digest, "run")
    with pytest.raises(ConfigError, match="do not make the weights that it had"):
        load_network(tmp_path, network(1), copy_of(network(2).state_dict()), digest, "run")
    for width in (1, 3):
        other = network()
        other["head"] = nn.Linear(6, width)
        with pytest.raises(ConfigError, match=r"^run: got"):
            load_network(tmp_path, other, copy_of(other.state_dict()), digest, "run")
