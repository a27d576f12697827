"""Parts of a data set for jobs that share the work."""

import re

from prunekit.errors import ArgumentError

SHARD = re.compile(r"(\d+)/(\d+)")


def parse_shard(shard: str | None) -> tuple[int, int]:
    """``i/n`` as two numbers; the whole, which is 0/1, for None.

    Raises:
        ArgumentError: if it is nothing of that kind.

    Example:
        >>> parse_shard("2/16"), parse_shard(None)
        ((2, 16), (0, 1))
    """
    if shard is None:
        return 0, 1
    match = SHARD.fullmatch(shard)
    if match is None or int(match[1]) >= int(match[2]):
        raise ArgumentError("shard", shard, "null, or i/n for the i-th of n jobs, from 0/n to (n-1)/n")
    return int(match[1]), int(match[2])
