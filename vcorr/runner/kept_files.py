"""What is said about a file that a run keeps besides its tables, such as a generated video or masks."""

from __future__ import annotations

from vcorr.contract.errors import StoreError


class DamagedFileError(StoreError):
    """A file that is missing, or is not the one that was made. The model makes it again."""
