"""The life of a run: its folder, its files, its results."""
