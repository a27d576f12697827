"""Prune, repair and shrink networks: what is pruned is a group, whatever the method or the network.

Names are imported when they are used: reading an exported network, say, needs no Lightning.

Example:
    >>> import prunekit
    >>> prunekit.Weights().word
    'weight'
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunekit.callbacks.l2_mask import L2Mask
    from prunekit.callbacks.pruning import Pruning
    from prunekit.callbacks.region_mean_mask import RegionMeanMask
    from prunekit.callbacks.unit_mask import UnitMask
    from prunekit.errors import ArgumentError
    from prunekit.exports import load_compact
    from prunekit.groups import Weights
    from prunekit.held_mask import HeldMask
    from prunekit.masks import Mask
    from prunekit.pruning import prune
    from prunekit.regions.grouping import Regions
    from prunekit.shrinking import shrink
    from prunekit.streams import load_stream
    from prunekit.units.compaction import compact
    from prunekit.units.grouping import Gates, Units
    from prunekit.units.network_units import NetworkUnits
    from prunekit.units.repair import ClosedLoop

_HOMES = {
    "callbacks.l2_mask": ["L2Mask"],
    "callbacks.pruning": ["Pruning"],
    "callbacks.region_mean_mask": ["RegionMeanMask"],
    "callbacks.unit_mask": ["UnitMask"],
    "errors": ["ArgumentError"],
    "exports": ["load_compact"],
    "groups": ["Weights"],
    "held_mask": ["HeldMask"],
    "masks": ["Mask"],
    "pruning": ["prune"],
    "regions.grouping": ["Regions"],
    "shrinking": ["shrink"],
    "streams": ["load_stream"],
    "units.compaction": ["compact"],
    "units.grouping": ["Gates", "Units"],
    "units.network_units": ["NetworkUnits"],
    "units.repair": ["ClosedLoop"],
}
__all__ = [
    "ArgumentError", "ClosedLoop", "Gates", "HeldMask", "L2Mask", "Mask", "NetworkUnits", "Pruning", "RegionMeanMask",
    "Regions", "UnitMask", "Units", "Weights", "compact", "load_compact", "load_stream", "prune",
    "shrink",
]  # fmt: skip
try:
    __version__ = metadata.version("prunekit")
except metadata.PackageNotFoundError:
    __version__ = "not installed"  # a bare clone on the path; the commands say so


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"prunekit.{home}"), name)
    raise AttributeError(f"module 'prunekit' has no attribute {name!r}")
