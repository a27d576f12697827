"""What pruning is: masks, regions, models, and what a run leaves."""
