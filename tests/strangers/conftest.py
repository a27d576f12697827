"""What tests of strangers' models share."""

import pytest

from prunekit.callbacks.l2_mask import L2Mask


@pytest.fixture
def l2():
    """Removes the smallest 30 % of all weights when one epoch is done."""
    return L2Mask(None, 0.3, start_epoch=1)
