"""Thin Lightning shells: when to prune, what to log, what to save."""
