"""The networks, as LightningModules that know nothing of pruning."""
