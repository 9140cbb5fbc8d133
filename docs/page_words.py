"""Holds the words of the generated parts of the pages; used by page_parts.py."""

from __future__ import annotations

SWITCH_SOURCES = {
    "readout": "`AP` 3242-3249, `evaluate_tapvid.py` 331-351; the margin also in `utils/matching.py` 56",
    "time_map": "`utils/track_vis.py` 18; always stretched to 49 frames, `AP` 3256 and 3290",
    "lookup": "`AP` 3308-3316; HunyuanVideo: `transformer_hunyuan_video.py` 238-246",
    "pooling": "`utils/evaluation.py` 196-205, `utils/confidence_attention_score.py` 110-131, `utils/harmonic_mean.py`",
    "second_softmax": "`AP` 3230-3238 and 3274, `evaluate_tapvid.py` 310-317 and 346, `utils/matching.py` 183-184",
    "scale": "`evaluate_tapvid.py` 305-309, which uses the number of heads in place of the width",
    "guidance_mask": "`AP` 1841-1845",
}
"""Where each switch is in the published code."""

CARD_FIELDS = {
    "name": "The name to type after `--model`.",
    "title": "The name that people know.",
    "summary": "One sentence.",
    "attention": "What a video token can attend to; the values are explained below the table.",
    "licence": "Licence of the weights, as an SPDX identifier where there is one.",
    "hub_id": "Repository on the Hugging Face hub. Without it, `--weights hub` works only where the adapter finds the "
    "weights itself.",
    "revision": "Commit of that repository, 40 hexadecimal digits. Branches and tags move; a commit does not.",
    "download_gb": "Size of the download in gigabytes (10^9 bytes), for the message about missing weights.",
    "parameters": "Number of parameters of the denoiser alone. `--dry-run` estimates time and memory from it.",
    "resolution": "[height, width] in pixels the model was released for.",
    "frames": "Video frames the model was released for.",
}

CARD_EXTRAS = {
    "hub_aliases": "Other ids under which the same revision may lie in the local cache.",
    "fps": "Frames per second of the released model.",
    "layers": "Attention layers.",
    "heads": "Heads of each attention layer.",
    "head_dim": "Width of a head; `--dry-run` uses it (64 when absent).",
    "text_tokens": "Text tokens in the attention sequence.",
    "text_encoder": "Name of the text encoder, and whether it is part of the download.",
    "vae": "Compression of the autoencoder in time and space, its channels, whether it is causal.",
    "patch": "Latents that a token covers in time and space.",
    "position": "Position embedding: how a token knows where it is.",
    "scheduler": "Class, prediction type and default number of steps.",
    "guidance": "How the pipeline batches its guidance branches.",
    "released_dtype": "Dtype of the released weights.",
    "training_data": "What is known about it. If it contains clips of a benchmark, the card must say so here.",
    "matching_layers": "Layers that others found to match, each list with its source.",
    "tracking": "The site at which `vcorr track` follows points unless another is named: probe, layers, step, and "
    "where the choice comes from. Without a step it is the last one.",
    "reported": "Published numbers with their source. Never mixed with measured rows.",
    "random_weights": "What is different under `--weights random`.",
    "weights": "Where the weights are, if they are not on a hub.",
    "settings": "What the authors sample with, where a loaded pipeline does not bring it along: the option, its value, "
    "where the value comes from, and the value of the scheduler in the folder, if it has one. These values are the "
    "defaults.",
    "revision_seen": "Whether the revision was looked up at the hub. `false`: whoever wrote the card never saw it "
    "there.",
    "weights_seen": "Whether the released weights were at hand where the card was written. `false`: nothing was run "
    "with them; the board says so.",
    "configs_seen": "Components whose packaged configuration was compared with the released `config.json`. The other "
    "configurations come from documentation, conversion scripts and the defaults of diffusers.",
    "limits": "What the numbers of the model do not show.",
    "homepage": "Where to read more.",
    "image": "How an image-to-video model is given its first frame.",
    "licence_link": "Where the text of the licence is.",
    "notes": "What else a user should know.",
    "time_map": "Which frames a latent covers, if that is unusual.",
    "token_sizes": "Pixels that a token covers, for each resolution of a UNet.",
    "motion_adapter": "Repository and revision of the motion modules, if they are in a repository of their own.",
    "citation": "How to cite the model.",
    "kind": "`baseline` for models without a network.",
    "method": "What a baseline does, exactly.",
}

ENTRY_FIELDS = {
    "name": "What users type: lowercase letters, digits, `-`, `_` and `.`, unique among entries of its kind.",
    "summary": "One line for lists.",
    "factory": '`"package.module:Attr"`. Called with the options, or with nothing when `config` is None. '
    "Resolving it is the first thing that may import torch.",
    "version": "A whole number from 1, part of every fingerprint. Raise it when the numbers of this part may change.",
    "config": "Dataclass of the options, or its import string, or None for no options. Fields are text, numbers, bool, "
    "Literal, Path, Enum, tuples, lists and mappings of these, dataclasses, or None.",
    "api_version": (
        "Version of the hooks the entry was written for. A plugin that states a newer one than the installed vcorr "
        "knows is listed as broken, with the command that upgrades vcorr."
    ),
    "check": "Options that `vcorr plugin check` uses: a size that a CPU runs in seconds.",
    "card": '`"package:path/in/package.yaml"` of the model card.',
    "data": "Dataset that is used without `--data`. A `difftrack:` dataset is used once it is imported, "
    "and prompts until then.",
    "configs": '`"package:path/to/folder"` of the configurations of its components ([new-model.md](new-model.md)). '
    "The factory is then called as `factory(config, card=..., configs=...)`.",
    "takes": "For an entry that stands for many models: the option that the text after its name fills. With `id`, "
    "`--model hf:TEXT` has the option `id=TEXT`, and its rows name the model `hf:TEXT`.",
    "default": "Whether a run of its task without `--set metrics=...` computes the metric.",
    "task": "Task of the runs that can use the metric: `correspondence`, `tracking` for a `TrackMetric`, "
    "`propagation` for a `MaskMetric`, `generation` for a `VideoMetric`.",
    "licence": "Licence of the tracker, shown in lists and kept with its tracks.",
    "notice": "A sentence that every run with this tracker prints once.",
}
