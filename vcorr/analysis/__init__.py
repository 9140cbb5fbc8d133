"""Reads finished runs: loads, compares, summarises and draws them. Needs no model."""
