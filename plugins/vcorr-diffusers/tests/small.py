"""The models at sizes a CPU runs in a moment."""
