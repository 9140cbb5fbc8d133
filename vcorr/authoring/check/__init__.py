"""Runs the suites of `vcorr.testing` on everything a plugin adds, for `vcorr plugin check`."""
