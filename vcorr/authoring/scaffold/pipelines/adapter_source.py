"""Writes the adapter's source and its configuration files from the facts of a pipeline."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from vcorr.authoring.scaffold.names import Names
from vcorr.authoring.scaffold.pipelines.facts import Argument, PipelineFacts, Sites

USUAL_HEADS = "self.network['num_attention_heads']"
KEY = re.compile(r"self\.network\['(\w+)'\]")
COMMENT_WIDTH = 110


def pipeline_files(names: Names, facts: PipelineFacts) -> Iterator[tuple[PurePosixPath, str]]:
    """Yields the files that have no template: the adapter, and the configurations of the components."""
    package = PurePosixPath(names.package)
    yield package / "model.py", model_source(names, facts)
    if facts.guider:
        yield package / "pipeline.py", _guider_source(facts)
    folder = package / "configs" / names.entry
    for part, values in facts.released.items():
        yield folder / f"{part}.json", _json(values)
    yield folder / "video.json", _json(facts.video)
    for part, values in facts.small.items():
        if values:
            yield folder / "small" / f"{part}.json", _json(values)
    yield folder / "small" / "video.json", _json(facts.small_video)


def _json(values: Any) -> str:
    """Formats a mapping as JSON with one key per line."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def model_source(names: Names, facts: PipelineFacts) -> str:
    """Returns the text of model.py."""
    methods = [
        *_encoding_method(facts),
        *_sites_method(facts),
        *_load_method(facts),
        *_call_inputs(facts),
        *_packing(facts),
    ]
    parts = [_header(names, facts), *_imports(facts), "", ""]
    parts += [f"class {names.label}(DiffusersVideoModel[VideoConfig]):"]
    parts += _indent(
        [f'"""Adapter of {facts.pipeline_class} with its {facts.denoiser_class}."""', "", *_attributes(names, facts)]
    )
    return "\n".join([*parts, *_indent(methods)]) + "\n"


def _guider_source(facts: PipelineFacts) -> str:
    """Returns the text of pipeline.py: the pipeline, with the strength of guidance as an argument of its call."""
    return f'''"""Adds the strength of guidance as an argument to the call of diffusers' `{facts.pipeline_class}`."""

import functools
from typing import Any

from diffusers import {facts.pipeline_class}


class Guided{facts.pipeline_class}({facts.pipeline_class}):
    """The pipeline; in diffusers, the strength of guidance is in its component `guider`."""

    @functools.wraps({facts.pipeline_class}.__call__)
    def __call__(self, *args: Any, guidance_scale: float | None = None, **kwargs: Any) -> Any:
        own = self.guider
        if guidance_scale is not None:
            self.guider = own.new(guidance_scale=guidance_scale)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self.guider = own
'''


def _indent(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]


def _header(names: Names, facts: PipelineFacts) -> str:
    seen = "" if facts.unseen else ", run with small random networks"
    return (
        f'"""Adapts diffusers\' `{facts.pipeline_class}` to vcorr as the model `{names.entry}`.\n\n'
        f"`vcorr plugin new` wrote it from the class{seen}.\n"
        'A comment that begins with "Check" marks a value that the class does not show.\n' + '"""\n'
    )


def _imports(facts: PipelineFacts) -> list[str]:
    stand_ins, packed = not facts.prompt.simple, not facts.latent_axes
    usual = _is_usual(facts)
    records = [
        *(["Clip"] if stand_ins else []),
        *([] if usual else ["Site"]),
        *(["TokenGrid"] if stand_ins else []),
        *(["Unrotated"] if any(site.unrotated for site in facts.sites) else []),
    ]
    diffusion = [
        "Compression",
        "DiffusersVideoModel",
        *(["PromptEncoding"] if facts.prompt.simple else []),
        "VideoConfig",
    ]
    lines = ["import inspect", "from collections.abc import Mapping"] if stand_ins else []
    lines += ["from typing import Any", ""] if stand_ins or packed else []
    lines += [f"from vcorr import {', '.join(records)}"] if records else []
    return [*lines, f"from vcorr.diffusion import {', '.join([*diffusion, *([] if usual else ['attention_sites'])])}"]


def _is_usual(facts: PipelineFacts) -> bool:
    """Returns whether the base class can make the sites from the attributes `attention`, `block` and `unrotated`."""
    one = facts.sites[0]
    return len(facts.sites) == 1 and one.layers == "num_layers" and facts.heads == USUAL_HEADS and not one.block_output


def _attributes(names: Names, facts: PipelineFacts) -> Iterator[str]:
    ratios = facts.ratios
    yield from _site_attributes(names, facts)
    yield from _with_comment(facts, "text", f'text = "{facts.text}"', unless=facts.text == "none")
    yield from _with_comment(
        facts, "branches", f"branches = {_code(facts.branches)}", unless=facts.branches == ("cond",)
    )
    if facts.passes:
        yield f"passes = {_code(facts.passes)}"
    if facts.per_sample:
        yield "per_sample = True"
    axes = f'latent_axes = "{facts.latent_axes}"' + ("" if facts.latent_axes else "  # packed into tokens")
    yield from _with_comment(facts, "latent_axes", axes, unless=facts.latent_axes == "bcfhw")
    argument = f'guidance_argument = "{facts.guidance_argument}"'
    yield from _with_comment(facts, "guidance_argument", argument, unless=facts.guidance_argument == "guidance_scale")
    if facts.embedded_guidance:
        yield "embedded_guidance = True"
    if facts.frames_argument != "num_frames":
        yield f'frames_argument = "{facts.frames_argument}"'
    yield f"steps = {facts.steps}"
    yield from _comment(facts, "encode")
    values = f"spatial={ratios.spatial}, temporal={ratios.temporal}, patch={ratios.patch}"
    values += f", temporal_patch={ratios.temporal_patch}" if ratios.temporal_patch > 1 else ""
    values += "" if ratios.causal else ", causal=False"
    yield from _with_comment(facts, "compression", f"compression = Compression({values})")
    if facts.prompt.simple and facts.prompt.in_network:
        arguments = [_key(facts.prompt.tokens), _key(facts.prompt.width), *_encoding_options(facts)]
        yield from _with_comment(facts, "encoding", f"encoding = PromptEncoding({', '.join(arguments)})")


def _site_attributes(names: Names, facts: PipelineFacts) -> Iterator[str]:
    """Yields the lines that say which pipeline it is, and where its attention is."""
    if facts.guider:
        yield f'pipeline_class = "{names.package}.pipeline:Guided{facts.pipeline_class}"'
        yield f'saved_as = ("{facts.pipeline_class}",)'
    else:
        yield f'pipeline_class = "{facts.pipeline_class}"'
    if _is_usual(facts):
        one = facts.sites[0]
        yield from _with_comment(facts, "attention", f'attention = "{one.pattern}"')
        yield f'block = "{one.block}"'
        if one.unrotated:
            yield f"unrotated = {_write_unrotated(one)}"


def _with_comment(facts: PipelineFacts, name: str, line: str, *, unless: bool = False) -> Iterator[str]:
    """Yields a line and the comment why it has to be checked; nothing when the base class has the same value."""
    yield from _comment(facts, name)
    if not unless or facts.why_check(name):
        yield line


def _comment(facts: PipelineFacts, name: str) -> Iterator[str]:
    why = facts.why_check(name)
    if why:
        yield from (f"# {line}" for line in textwrap.wrap(f"Check {name}: {why}", COMMENT_WIDTH))


def _code(values: Sequence[str]) -> str:
    return "(" + ", ".join(f'"{value}"' for value in values) + ("," if len(values) == 1 else "") + ")"


def _key(expression: str) -> str:
    """Returns the source of a number, or of the key in the denoiser's configuration; `PromptEncoding` takes both."""
    match = KEY.fullmatch(expression)
    return f'"{match[1]}"' if match else expression


def _read(expression: str) -> str:
    """Returns an expression with double quotes, as in the rest of the file."""
    return expression.replace("'", '"')


def _write_unrotated(site: Sites) -> str:
    assert site.unrotated is not None
    quoted = ", ".join(json.dumps(each) for each in site.unrotated)
    return f"Unrotated({quoted})"


def _encoding_options(facts: PipelineFacts) -> list[str]:
    prompt = facts.prompt
    options = ", ".join(f'"{name}": {value!r}' for name, value in prompt.options.items())
    return [
        *([f"mask={prompt.mask}"] if prompt.mask is not None else []),
        *([f"options={{{options}}}"] if options else []),
    ]


def _encoding_method(facts: PipelineFacts) -> list[str]:
    """Returns `encoding` as a property, for sizes that are computed from several values."""
    prompt = facts.prompt
    if not prompt.simple or prompt.in_network:
        return []
    rest = ", ".join(["width", *_encoding_options(facts)])
    return [
        "",
        *_comment(facts, "encoding"),
        "@property",
        "def encoding(self) -> PromptEncoding:",
        '    """Number of text tokens and their width, from the configurations."""',
        f"    width = {_read(prompt.width)}",
        f"    return PromptEncoding({_read(prompt.tokens)}, {rest})",
    ]


def _sites_method(facts: PipelineFacts) -> list[str]:
    if _is_usual(facts):
        return []
    counts = [f'self.network["{site.layers}"]' if site.layers else str(site.count) for site in facts.sites]
    lines = ["", *_comment(facts, "sites"), "def sites(self) -> tuple[Site, ...]:"]
    lines += [
        '    """Returns the attention of every block that sees the whole video."""',
        f"    heads = {_read(facts.heads)}",
    ]
    for index, (site, count) in enumerate(zip(facts.sites, counts, strict=True)):
        first = " + ".join(counts[:index])
        more = [f'block="{site.block}"'] if site.block else []
        more += [f"block_output={site.block_output}"] if site.block_output else []
        more += [f"unrotated={_write_unrotated(site)}"] if site.unrotated else []
        lines += [
            f"    kind_{index} = attention_sites(",
            f'        "{site.pattern}",',
            f"        {count},",
            "        heads,",
            *([f"        first={first},"] if first else []),
            *(f"        {each}," for each in more),
            "    )",
        ]
    return [*lines, f"    return {' + '.join(f'kind_{index}' for index in range(len(facts.sites)))}"]


def _load_method(facts: PipelineFacts) -> list[str]:
    if not facts.tiles:
        return []
    return [
        "",
        *_comment(facts, "sizes"),
        "def load(self, device: str, dtype: str, weights: str) -> None:",
        '    """See the base class. The autoencoder only works in tiles."""',
        "    super().load(device, dtype, weights)",
        "    self.pipe.vae.enable_tiling()",
    ]


def _call_inputs(facts: PipelineFacts) -> list[str]:
    if facts.prompt.simple:
        return []
    made = [f'        "{each.name}": {_stand_in(each)},' for each in facts.prompt.arguments]
    return [
        "",
        *_comment(facts, "encoding"),
        "def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:",
        '    """Returns the prompt; without a text encoder, random embeddings of it and of an empty prompt."""',
        "    prompt = self.prompt(clip)",
        "    if self.pipe.text_encoder is not None:",
        '        return {"prompt": prompt}',
        '    negative = {f"negative_{name}": value for name, value in self._stand_ins("").items()}',
        "    known = inspect.signature(type(self.pipe).__call__).parameters",
        "    given = {**self._stand_ins(prompt), **negative}",
        "    return {name: value for name, value in given.items() if name in known}",
        "",
        "def _stand_ins(self, prompt: str) -> dict[str, Any]:",
        '    """Returns noise whose seed is the prompt, by argument of the pipeline\'s call."""',
        "    from vcorr.diffusion import prompt_noise, random_mask",
        "",
        f"    tokens, target = {_read(facts.prompt.tokens)}, (self.device, getattr(self.pipe, self.denoiser).dtype)",
        "    return {",
        *made,
        "    }",
    ]


def _stand_in(argument: Argument) -> str:
    if argument.kind == "mask":
        return "random_mask(tokens, prompt).to(self.device)"
    shape = "1, tokens, " if argument.kind == "embedding" else "1, "
    return f"prompt_noise(({shape}{_read(argument.width)}), prompt).to(*target)"


def _packing(facts: PipelineFacts) -> list[str]:
    if facts.latent_axes:
        return []
    ratios = facts.ratios
    patch = f", {ratios.patch}, {ratios.temporal_patch}" if (ratios.patch, ratios.temporal_patch) != (1, 1) else ""
    return [
        "",
        *_comment(facts, "denoiser_input"),
        "def denoiser_input(self, latents: Any, own: Any) -> Any:",
        '    """Packs latents into tokens, (1, F·h·w, C)."""',
        f"    return self.pipe._pack_latents(latents{patch}).to(own.dtype)",
        "",
        "def as_latents(self, output: Any, latents: Any) -> Any:",
        '    """Unpacks tokens into latents."""',
        f"    return self.pipe._unpack_latents(output, *latents.shape[2:]{patch})",
    ]
