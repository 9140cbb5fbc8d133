"""Stands in for the package tapnet in tests; it has the interface of the package and none of its code."""
