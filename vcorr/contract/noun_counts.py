"""Writes numbers of things in words, for messages and tables."""

from __future__ import annotations


def say_count(number: int, noun: str) -> str:
    """Returns a number with its noun, in the plural unless the number is 1: "1 clip", "5 clips"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
