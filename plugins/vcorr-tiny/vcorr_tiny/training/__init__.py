"""Trains the embedded model: checkpoints, optimiser, stages, validation and picture sheets."""
