"""Probes on a pipeline in the user's own script, without a plugin or the runner (docs/cookbook/record.md)."""
