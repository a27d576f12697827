"""The stand-in as Lightning sees it, under the name ``standin``."""

from typing import Any

import torch
from pytorch_lightning.accelerators import Accelerator, AcceleratorRegistry
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.trainer.connectors import accelerator_connector as connector

from tests.standin import NAME, flat_weights, load


class StandInAccelerator(Accelerator):
    """What Lightning has to know of a kind of device."""

    def setup_device(self, device: torch.device) -> None:
        torch.get_device_module(NAME).set_device(device)

    def teardown(self) -> None:
        """Nothing is kept."""

    @staticmethod
    def parse_devices(devices: Any) -> list[int]:
        """As Lightning reads it for CUDA: a number of devices, or a list of their numbers."""
        return devices if isinstance(devices, list) else list(range(int(devices)))

    @staticmethod
    def get_parallel_devices(devices: list[int]) -> list[torch.device]:
        return [torch.device(NAME, number) for number in devices]

    @staticmethod
    def auto_device_count() -> int:
        return int(load().device_count())

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


def register() -> None:
    """Have a Trainer take ``accelerator="standin"``, and train on the device and in the precision that it names.

    Recurrent layers then want their weights in one piece, as on CUDA.

    Lightning knows of no single device but its own kinds, for which it decides at two places.
    """
    AcceleratorRegistry.register(NAME, StandInAccelerator, override=True)
    strategy, mixed = connector._AcceleratorConnector._choose_strategy, connector.MixedPrecision

    def choose(self: Any) -> Any:
        ours = isinstance(self.accelerator, StandInAccelerator) and len(self._parallel_devices) == 1
        return SingleDeviceStrategy(self._parallel_devices[0]) if ours else strategy(self)

    connector._AcceleratorConnector._choose_strategy = choose
    connector.MixedPrecision = lambda precision, device: mixed(precision, NAME if device == "cuda" else device)
    flat_weights.require()
