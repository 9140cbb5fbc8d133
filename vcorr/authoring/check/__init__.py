"""`vcorr plugin check`: the suites of `vcorr.testing` on everything a plugin brings."""
