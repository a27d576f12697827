"""Region pruning and transfer-entropy unit pruning as PyTorch Lightning callbacks."""

from importlib.metadata import version

__version__ = version("prunekit")
