"""The program in this process, on plugins whose answers are known."""

from support.program import vcorr

__all__ = ["vcorr"]
