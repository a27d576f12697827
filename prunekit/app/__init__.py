"""The application: from a config to a run, from runs to reports. Hydra lives here alone."""
