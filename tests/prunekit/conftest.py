"""What tests of streams share."""

import pytest
import torch

from prunekit.exports import plain_network
from prunekit.models.recognizer import Recognizer
from tests.prunekit.networks_of_steps import saved


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.manual_seed(1)
    network = plain_network(Recognizer(3, 2, torch.optim.Adam, units=4, hidden=3, readout="mean"))
    return saved(tmp_path_factory.mktemp("whole") / "e", network)
