"""Makes the options of a part from what a user set, as an instance of the part's config dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vcorr.contract.errors import UsageError
from vcorr.plugins.option_values import options_from


def make_config(config_type: type | None, options: Mapping[str, Any], part: str) -> Any:
    """Returns an instance of a part's config dataclass with `options` set; None for parts without options.

    Args:
        config_type: the dataclass; None for a part that has no options.
        options: values by name; "a.b" names the field b of the field a.
        part: what messages call the part, such as "probe".

    Raises:
        UsageError: an option that the part does not have, or a value of the wrong type.
    """
    if config_type is None:
        if options:
            raise UsageError(f"{part} has no options, but {', '.join(f'{part}.{k}' for k in options)} was set.")
        return None
    return options_from(config_type, options, f"{part}.")
