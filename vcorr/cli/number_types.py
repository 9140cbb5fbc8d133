"""The numbers that flags take: what Python reads in addition, such as 1_0 for 10, is refused as in `--set`."""

from __future__ import annotations

import math
import re
from typing import Any

import click

_DIGITS = re.compile(r"\s*[-+]?[0-9]{1,19}\s*")
_DECIMAL = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*")


class _WholeNumber(click.types.IntParamType):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not _DIGITS.fullmatch(value):
            self.fail(f"{value!r} is not a valid integer.", param, ctx)
        return super().convert(value, param, ctx)


class _Number(click.types.FloatParamType):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not (_DECIMAL.fullmatch(value) and math.isfinite(float(value))):
            self.fail(f"{value!r} is not a valid float.", param, ctx)
        return super().convert(value, param, ctx)


WHOLE_NUMBER = _WholeNumber()
NUMBER = _Number()
