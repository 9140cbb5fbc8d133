"""Bundles the Vega-Lite library into one file for the pages, in the version that Altair writes specifications for."""

from __future__ import annotations

import functools
from collections.abc import Sequence


@functools.cache
def chart_library() -> str:
    """Returns JavaScript that defines `vegaEmbed` and loads nothing from the network."""
    import altair as alt
    import vl_convert

    version = _version(alt.SCHEMA_VERSION, vl_convert.get_vegalite_versions())
    code: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=version)
    # Inside a function, so that the bundle's short names do not become names of the page.
    return f"(function () {{\n{code}\n}})();\n"


def _version(schema: str, known: Sequence[str]) -> str:
    """Returns the known version of a schema such as "v6.4.1", or the newest one when the version is not known."""
    wanted = ".".join(schema.lstrip("v").split(".")[:2])
    return wanted if wanted in known else known[-1]
