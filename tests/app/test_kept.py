import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from prunekit.app.kept import load_masks, save_masks
from prunekit.masks import Mask


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
    save_masks(tmp_path / "m", Mask({"weight": torch.rand(2, 3) < 0.5}))
    with pytest.raises(KeyError, match="no parameter 'weight'"):
        load_masks(tmp_path / "m", nn.Sequential(nn.Linear(3, 2)))
    with pytest.raises(RuntimeError, match="expand"):
        load_masks(tmp_path / "m", nn.Linear(4, 2))
