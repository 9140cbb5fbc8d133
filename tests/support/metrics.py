"""A plugin of metrics for the tests: an error in pixels, a share, and metrics that break the rules for columns."""

from __future__ import annotations

import numpy as np

import vcorr


class PixelDistance(vcorr.MetricBase):
    """`pixel_error`: the mean distance in pixels. Lower is better, and it declares no columns."""

    higher_is_better = False
    names: tuple[str, ...] = ("pixel_error",)

    def score(self, tracks, reference, grid):
        pairs = reference.visible.copy()
        pairs[:, 0] = False
        distances = np.linalg.norm(tracks - reference.xy, axis=-1)[pairs]
        value = float(distances.mean()) if len(distances) else float("nan")
        return {name: vcorr.Score(value, len(distances)) for name in self.names}


class Both(PixelDistance):
    """Gives two columns and names its second one."""

    names = ("first_error", "second_error")
    primary = "second_error"


class Nameless(PixelDistance):
    """Gives two columns and names none."""

    names = ("first_error", "second_error")


class Elsewhere(PixelDistance):
    """Names a column that it does not give."""

    primary = "elsewhere"


class Twin(PixelDistance):
    """Gives a column of another metric, and declares it."""

    columns = ("pixel_error",)


class SecretTwin(PixelDistance):
    """Declares a column of its own and gives the column of another metric."""

    columns = ("secret",)
    primary = "secret"


CLASSES = {
    "pixel-error": PixelDistance,
    "both": Both,
    "nameless": Nameless,
    "elsewhere": Elsewhere,
    "twin": Twin,
    "secret-twin": SecretTwin,
}


@vcorr.hookimpl
def vcorr_metrics():
    return [
        vcorr.MetricEntry(name=name, summary=made.__name__, factory=f"support.metrics:{made.__name__}")
        for name, made in CLASSES.items()
    ]
