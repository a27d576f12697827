"""Linear neurons that nothing reaches or that nobody reads: what they say goes into the biases of their readers."""

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prunekit.gpu import float64
from prunekit.units.layers import reading
from prunekit.units.links import Link


def clear_unread(module: nn.Module, readers: Mapping[str, Sequence[Link]]) -> None:
    """Set all weights of linear neurons that nobody reads to 0, and so on towards the inputs."""
    for name in [*reversed([*readers])] * len(readers):  # as often as one clearing can lead to another
        layer = module.get_submodule(name)
        if isinstance(layer, nn.Linear):
            unread = ~read_outputs(module, readers[name])
            layer.weight[unread] = 0.0
            if layer.bias is not None:
                layer.bias[unread] = 0.0


def read_outputs(module: nn.Module, links: Sequence[Link]) -> Tensor:
    """Which of a source's outputs have a weight other than 0 in a reader, ``(width,)`` bool."""
    read = [weight for link in links for weight, _ in reading(module.get_submodule(link.reader))]
    return torch.stack([(weight != 0).any(0) for weight in read]).any(0)


def fold_constants(module: nn.Module, readers: Mapping[str, Sequence[Link]]) -> None:
    """Have readers' biases say what linear neurons without inputs do, and no longer read these neurons."""
    for name in [*readers] * len(readers):
        layer = module.get_submodule(name)
        if not isinstance(layer, nn.Linear):
            continue
        folded = ~(layer.weight != 0).any(1)
        places = []
        for link in readers[name]:
            value = torch.zeros_like(layer.weight[:, 0]) if layer.bias is None else layer.bias.detach()
            for between in link.between:
                value = copy.deepcopy(module.get_submodule(between)).eval()(value)
            for weight, bias in reading(module.get_submodule(link.reader)):
                places.append((weight, bias, value))
                if bias is None:
                    folded = folded & (value == 0)
        for weight, bias, value in places:
            if bias is not None:
                bias.copy_(float64(bias) + float64(weight[:, folded]) @ float64(value[folded]))
            weight[:, folded] = 0.0
