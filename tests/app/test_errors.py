"""Where an error came from."""

from prunekit.app.errors import chain


def test_an_error_that_was_raised_after_itself_is_told_once():
    first, second = OSError("first"), ValueError("second")
    second.__context__, first.__context__ = first, second
    assert list(chain(second)) == [second, first]
    cause = KeyError("cause")
    second.__cause__ = cause
    assert list(chain(second)) == [second, cause]
