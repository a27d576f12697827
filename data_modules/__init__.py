"""Data: from files to batches on the training device."""
