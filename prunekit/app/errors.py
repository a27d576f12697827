"""What a user reads: an error by the key of the config that has to be set."""

from prunekit.errors import ArgumentError


class ConfigError(ArgumentError):
    """A value of the config that cannot work.

    Its ``argument`` is a full key, such as ``callbacks.my_mask.rate``, and it has no ``owner``.
    """
