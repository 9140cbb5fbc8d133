"""Builds pipelines with random weights from configurations, on the device itself and in the dtype they run in.

On a CPU, billions of random numbers take minutes, and 14 billion parameters in float32 would need 56 GB.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from diffusers import SchedulerMixin
from torch import nn

from vcorr.contract.errors import PluginError, did_you_mean
from vcorr.diffusion.configs import PIPELINE, Configs
from vcorr.diffusion.loading import cast_pipeline, pipeline_type, seed_generators


def random_pipeline(build: Callable[[int], Any], seed: int, device: str, dtype: torch.dtype, denoiser: str = "") -> Any:
    """Builds a pipeline with `build(seed)`, with torch's default device and dtype set and its generators seeded.

    The same seed, device and dtype make the same weights; another device or dtype makes different weights. Schedulers
    stay on the CPU, where pipelines expect them. Other components stay on the device where `build` puts them.
    `open_gates` is applied to the component `denoiser` and to components that take turns with it.
    """
    with seed_generators(seed, device), torch.device(device), _default_dtype(dtype):
        pipe = build(seed)
        for network in denoisers_of(pipe, denoiser).values() if denoiser else ():
            open_gates(network)
    for name, component in pipe.components.items():
        if isinstance(component, SchedulerMixin):
            pipe.register_modules(**{name: type(component).from_config(component.config)})
    cast_pipeline(pipe, dtype)
    return pipe


def denoisers_of(pipe: Any, denoiser: str) -> dict[str, nn.Module]:
    """Returns the component of that name, and others that take turns with it (`denoiser_2` and so on), by name."""
    found = {denoiser: getattr(pipe, denoiser)}
    further = {name: part for name, part in pipe.components.items() if name.startswith(f"{denoiser}_")}
    return found | {name: part for name, part in further.items() if part is not None}


def pipeline_from_configs(class_name: str, configs: Configs, stand_ins: Mapping[str, Any]) -> Any:
    """Builds a pipeline with random weights, whose components have the sizes in their configurations.

    Args:
        class_name: of the pipeline, as `vcorr.diffusion.loading.pipeline_type` takes it.
        configs: by component; each names its class in diffusers, `_class_name`. The pipeline's own values are used if
            its constructor takes them.
        stand_ins: components that exist already. Arguments of the constructor that neither gives are None.

    Raises:
        PluginError: a configuration does not name its class, or a component in `_NEEDED` has no configuration.
    """
    kind = pipeline_type(class_name)
    wanted = inspect.signature(kind.__init__).parameters
    for name in _NEEDED & wanted.keys() - configs.keys() - stand_ins.keys():
        if wanted[name].default is inspect.Parameter.empty:
            raise PluginError(
                f"{kind.__name__} needs a component {name!r}, and the plugin's configurations have none.",
                hint=f"Add {name}.json, with the released config.json of that component.",
            )
    made = {name: component_from_config(name, config) for name, config in configs.items() if name in wanted}
    own = {name: value for name, value in configs.get(PIPELINE, {}).items() if name in wanted}
    absent = {
        name: None
        for name, one in wanted.items()
        if name != "self" and one.default is one.empty and one.kind != one.VAR_KEYWORD
    }
    return kind(**{**absent, **own, **made, **stand_ins})


_NEEDED = frozenset({"scheduler", "transformer", "unet", "vae"})
"""Components that a pipeline needs if its constructor asks for them. Text encoders have stand-ins."""


def component_from_config(name: str, config: Mapping[str, Any]) -> Any:
    """Builds a diffusers component with that configuration and random weights; a scheduler on the CPU.

    Raises:
        PluginError: the configuration does not name its class, has a value that the class does not take, or the class
            raises an error.
    """
    if "_class_name" not in config:
        raise PluginError(
            f"The configuration of {name!r} does not name its class, _class_name.",
            hint=f"Is {name}.json there, with the released config.json of that component?",
        )
    kind = pipeline_type(config["_class_name"])
    _expect_known(name, config, kind)
    # schedulers convert their tables to numpy, which needs the CPU
    device = torch.device("cpu") if issubclass(kind, SchedulerMixin) else nullcontext()
    try:
        with device:
            return kind.from_config(config)
    except Exception as error:
        raise PluginError(
            f"The configuration of {name!r} makes no {kind.__name__}: {type(error).__name__}: {error}",
            hint=f"Correct the plugin's {name}.json, or the one for the small size.",
        ) from error


def _expect_known(name: str, config: Mapping[str, Any], kind: Any) -> None:
    """Raises PluginError for a value that the class does not take: diffusers would ignore it, for example a typo."""
    taken = inspect.signature(kind.__init__).parameters
    if any(one.kind == one.VAR_KEYWORD for one in taken.values()):
        return
    for key in config:
        if key not in taken and not key.startswith("_"):
            near = did_you_mean(key, taken.keys() - {"self"})
            raise PluginError(
                f"The configuration of {name!r} has {key!r}, which {kind.__name__} does not take.{near}",
                hint=f"Correct it in {name}.json or in the one for the small size, or leave it out: nothing reads it.",
            )


def open_gates(denoiser: nn.Module) -> None:
    """Draws the weights of a denoiser that its constructor leaves at zero: gates, and projections at a branch's end.

    Training opens them. At zero they would cut off everything before them: the prompt, for example, could not change
    the output of a network with random weights. They are drawn from torch's CPU generator, with the standard deviation
    0.02 of diffusers' own initialisation.
    """
    with torch.no_grad():
        for parameter in denoiser.parameters():
            if parameter.ndim > 1 and not bool(parameter.any()):
                drawn = torch.randn(parameter.shape, device="cpu", dtype=torch.float32) * _GATE
                parameter.copy_(drawn)


_GATE = 0.02


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
