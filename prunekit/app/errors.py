"""What a user reads: an error by the key of the config that has to be set, and where it came from."""

from collections.abc import Iterator

from prunekit.errors import ArgumentError


class ConfigError(ArgumentError):
    """A value of the config that cannot work.

    Its ``argument`` is a full key, such as ``callbacks.my_mask.rate``, and it has no ``owner``.
    """


def chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it was raised after: on a full disk what fails first says which file.

    Each once: an error that a thread hands on again and again is raised after itself.
    """
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        yield found
        seen.add(id(found))
        found = found.__cause__ or found.__context__
