"""Measures what probing costs, at the true size of models but with random weights, and how accurate trackers are."""
