"""How the embedded model is trained: parts, optimiser, stages, validation and picture sheets."""
