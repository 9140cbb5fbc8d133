"""Makes the entry of a model whose files are at the usual places of a plugin's package."""

from __future__ import annotations

from typing import Any

from vcorr.contract.entries import ModelEntry


def packaged_model(package: str, name: str, adapter: str, summary: str, **more: Any) -> ModelEntry:
    """Returns an entry whose card is `cards/NAME.yaml` and whose configurations are in `configs/NAME` of `package`.

    Args:
        package: of the plugin.
        name: of the model.
        adapter: "module:Class" inside the package, a `vcorr.diffusion.DiffusersVideoModel`.
        summary: one line.
        **more: further fields of `vcorr.ModelEntry`; they override the defaults, e.g. `VideoConfig` for `config`.
    """
    usual: dict[str, Any] = {
        "config": "vcorr.diffusion:VideoConfig",
        "card": f"{package}:cards/{name}.yaml",
        "configs": f"{package}:configs/{name}",
        "check": {"size": "small"},
    }
    return ModelEntry(name=name, summary=summary, factory=f"{package}.{adapter}", **{**usual, **more})
