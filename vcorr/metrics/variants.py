"""The two variants of every measure: which exist, and which of them this version can compute."""

from __future__ import annotations

from vcorr.errors import UsageError, unknown_name

VARIANTS = ("corrected", "difftrack")


def check_variant(variant: str, asker: str) -> None:
    """Refuses every variant but "corrected".

    Args:
        variant: what the caller asked for.
        asker: the function or metric that was asked, for the message.

    Raises:
        UsageError: `variant` is "difftrack", which this version cannot compute, or no variant at all.
    """
    if variant == "corrected":
        return
    if variant not in VARIANTS:
        raise unknown_name("variant", str(variant), VARIANTS)
    raise UsageError(
        f"{asker}: variant {variant!r} is not available in this version.", hint="Use variant 'corrected', the default."
    )
