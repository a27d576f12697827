"""The one error a user can mend: what was got, what is accepted, which argument to set."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral, Real


class ArgumentError(ValueError):
    """A value that a user gave and that cannot work.

    Args:
        argument: the name of the argument, such as ``rate``; empty where ``owner`` as a whole does not fit.
        got: the value found there.
        accepted: what would be accepted, in words.
        owner: the object whose argument it is, where it was raised after the object was made: whoever made the object
            knows by which name.

    Example:
        >>> print(ArgumentError("rate", 1.5, "a number from 0 to 1"))
        rate: got 1.5; accepted: a number from 0 to 1
    """

    def __init__(self, argument: str, got: object, accepted: str, owner: object = None) -> None:
        super().__init__(f"{argument or type(owner).__name__}: got {got!r}; accepted: {accepted}")
        self.argument, self.got, self.accepted, self.owner = argument, got, accepted, owner


@contextmanager
def owned_by(owner: object, renamed: Mapping[str, str] | None = None) -> Iterator[None]:
    """Say of errors raised within, unless they say it themselves, that the argument is one of ``owner``'s.

    So a function that ``owner`` calls names an argument and need not know whose it is.

    Args:
        owner: any object.
        renamed: what it calls an argument of its parts, where that is another name.

    Example:
        >>> try:
        ...     with owned_by("somebody"):
        ...         check_rate("rate", 2)
        ... except ArgumentError as error:
        ...     print(error.owner)
        somebody
    """
    try:
        yield
    except ArgumentError as error:
        argument = (renamed or {}).get(error.argument, error.argument)
        raise ArgumentError(argument, error.got, error.accepted, error.owner or owner) from error.__cause__


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
