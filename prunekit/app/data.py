"""What data are known by."""

import logging
from typing import Any

log = logging.getLogger("prunekit")


def fingerprint(data: Any) -> str:
    """Equal where the data are, for all that is known.

    Data that give no ``fingerprint()`` are known by their node of the config alone, which counts in any case.
    """
    if hasattr(data, "fingerprint"):
        return str(data.fingerprint())
    words = "%s has no fingerprint(): its data count as the same while its config is; once they change, set force=true"
    log.warning(words + " and reuse=false", type(data).__name__)
    return ""
