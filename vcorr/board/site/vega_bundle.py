"""The Vega-Lite library as one file beside the pages, in the version Altair writes specifications for."""

from __future__ import annotations

import functools
from collections.abc import Sequence


@functools.cache
def chart_library() -> str:
    """JavaScript that defines `vegaEmbed`; asks the network for nothing."""
    import altair as alt
    import vl_convert

    version = _version(alt.SCHEMA_VERSION, vl_convert.get_vegalite_versions())
    code: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    # In a function of its own: the bundle's short names must not become the page's
    return f"(function () {{\n{code}\n}})();\n"


def _version(schema: str, known: Sequence[str]) -> str:
    """The known version of a schema such as "v6.4.1", or the newest one where it is not known."""
    wanted = ".".join(schema.lstrip("v").split(".")[:2])
    return wanted if wanted in known else known[-1]
