"""What data tell of themselves, and what stands for it where a data module is somebody's own and tells nothing."""

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


def model_arguments(data: Any) -> dict[str, Any]:
    """What a model has to be given to fit the data, for arguments that its config leaves null."""
    return dict(data.model_arguments()) if hasattr(data, "model_arguments") else {}


def report(data: Any) -> dict[str, Any]:
    """What results say of the data."""
    return dict(data.report()) if hasattr(data, "report") else {}
