"""The configuration: one YAML per class it names, and one per experiment."""
