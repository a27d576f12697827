"""What the shape of an image may be."""

import pytest

from prunekit.errors import ArgumentError
from prunekit.regions.grouping import check_image_shape


def test_channels_come_first():
    for sides in ([16, 16, 3], [28, 28, 1], [32, 64, 4]):
        with pytest.raises(ArgumentError, match=rf"^image_shape: got .*channels first.*\[{sides[2]}, {sides[0]}, "):
            check_image_shape(sides)
    for sides in ([3, 16, 16], [3, 3, 3], [16, 16], [4, 5, 3], [2, 16, 16]):
        assert check_image_shape(sides) == tuple(sides)
