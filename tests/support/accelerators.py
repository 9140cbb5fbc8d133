"""An accelerator as a plugin would bring it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from vcorr.diffusion import Accelerator


@dataclass(frozen=True)
class Silent(Accelerator):
    """Sets the biases of the denoiser's last layer to a value."""

    value: float = 0.0

    def apply(self, model: Any) -> None:
        """Sets them."""
        model.pipe.transformer.proj_out.bias.data.fill_(self.value)


@dataclass(frozen=True)
class Missing(Accelerator):
    """Needs a package that nobody has."""

    package: ClassVar[str] = "no-such-package"


class NoOptions(Accelerator):
    """Is no dataclass."""
