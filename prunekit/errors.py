"""The one error a user can mend: what was got, what is accepted, which key to set."""

from collections.abc import Collection
from numbers import Integral, Real


class ConfigError(ValueError):
    """A value that a user gave and that cannot work.

    Args:
        key: the config key to set, such as ``callbacks.l2_mask.rate``.
        got: the value found there.
        accepted: what would be accepted, in words.

    Example:
        >>> print(ConfigError("callbacks.l2_mask.rate", 1.5, "a number from 0 to 1"))
        callbacks.l2_mask.rate: got 1.5; accepted: a number from 0 to 1
    """

    def __init__(self, key: str, got: object, accepted: str) -> None:
        super().__init__(f"{key}: got {got!r}; accepted: {accepted}")


def check_rate(key: str, value: object) -> float:
    """Return ``value`` if it is a share in [0, 1].

    Raises:
        ConfigError: if it is not a number, is NaN, or lies outside [0, 1].

    Example:
        >>> check_rate("rate", 0.4)
        0.4
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ConfigError(key, value, "a number from 0 to 1")
    return float(value)


def check_count(key: str, value: object, least: int = 0) -> int:
    """Return ``value`` if it is a whole number of at least ``least``.

    Raises:
        ConfigError: if it is not.

    Example:
        >>> check_count("rounds", 2, least=1)
        2
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(key, value, f"a whole number, {least} or more")
    return int(value)


def check_choice(key: str, value: object, choices: Collection[object]) -> None:
    """Refuse a ``value`` that is none of ``choices``.

    Raises:
        ConfigError: if it is not among them.

    Example:
        >>> check_choice("connectivity", 2, [1, 2])
    """
    if isinstance(value, bool) or value not in choices:
        raise ConfigError(key, value, "one of " + ", ".join(map(repr, choices)))
