"""Sweeps: models x probes x data x options from one file, as ordinary runs in one folder."""
