"""The one error a user can mend: what was got, what is accepted, which argument to set."""

from collections.abc import Collection
from numbers import Integral, Real


class ArgumentError(ValueError):
    """A value that a user gave and that cannot work.

    Args:
        argument: the name of the argument, such as ``rate``.
        got: the value found there.
        accepted: what would be accepted, in words.
        owner: the object whose argument it is, where it was raised after the object was made: whoever made the object
            knows by which name.

    Example:
        >>> print(ArgumentError("rate", 1.5, "a number from 0 to 1"))
        rate: got 1.5; accepted: a number from 0 to 1
    """

    def __init__(self, argument: str, got: object, accepted: str, owner: object = None) -> None:
        super().__init__(f"{argument}: got {got!r}; accepted: {accepted}")
        self.argument, self.got, self.accepted, self.owner = argument, got, accepted, owner


ConfigError = ArgumentError  # until all of the library names arguments


def check_rate(argument: str, value: object) -> float:
    """Return ``value`` if it is a share in [0, 1].

    Raises:
        ArgumentError: if it is not a number, is NaN, or lies outside [0, 1].

    Example:
        >>> check_rate("rate", 0.4)
        0.4
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ArgumentError(argument, value, "a number from 0 to 1")
    return float(value)


def check_count(argument: str, value: object, least: int = 0) -> int:
    """Return ``value`` if it is a whole number of at least ``least``.

    Raises:
        ArgumentError: if it is not.

    Example:
        >>> check_count("rounds", 2, least=1)
        2
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ArgumentError(argument, value, f"a whole number, {least} or more")
    return int(value)


def check_choice(argument: str, value: object, choices: Collection[object]) -> None:
    """Refuse a ``value`` that is none of ``choices``.

    Raises:
        ArgumentError: if it is not among them.

    Example:
        >>> check_choice("connectivity", 2, [1, 2])
    """
    if isinstance(value, bool) or value not in choices:
        raise ArgumentError(argument, value, "one of " + ", ".join(map(repr, choices)))
