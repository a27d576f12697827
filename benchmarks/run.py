"""All measurements, one table each: ``make bench``.

MNIST is read from ``$PRUNEKIT_DATA_DIR`` (default ``data``) and unpacked or downloaded into ``$PRUNEKIT_CACHE_DIR``
(default ``cache``), as in a run.
"""

import os
import warnings

from benchmarks import clips, compaction, epoch, files, regions, units
from prunekit.app.door import quiet_lightning


def main() -> None:
    """Print the tables."""
    quiet_lightning()
    warnings.filterwarnings("ignore", message=".*(validation_step|num_workers|weights_only).*")
    regions.main()
    files.main()
    clips.main()
    units.main()
    compaction.main()
    epoch.main(os.environ.get("PRUNEKIT_DATA_DIR", "data"), os.environ.get("PRUNEKIT_CACHE_DIR", "cache"))


if __name__ == "__main__":
    main()
