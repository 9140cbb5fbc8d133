"""The three tables of a run directory and the version of their layout (docs/results-format.md).

A row class defines the schema of its table, the rows that writers make, and the documentation of the columns. Positions
are (x, y) raster pixels of the video as the model read it, flattened row-major from (N, F, 2) or (N, T, 2). N is the
number of query points, F of latent frames, T of video frames.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pyarrow as pa

from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.store.columns import NAN, Bools, Float, Floats, Int32, Int64, Ints, Text, arrow_schema, column, units

SCHEMA_VERSION = 7

TableName = Literal["predictions", "tracks", "scores"]

VERSION_KEY = b"vcorr.schema_version"
TABLE_KEY = b"vcorr.table"
FINGERPRINT_KEY = b"vcorr.fingerprint"
UNITS_KEY = b"vcorr.units"
CLIP_KEY = b"vcorr.clip"
FACTS_KEY = b"vcorr.facts"
CHECKSUM_KEY = b"vcorr.sha256"

NONE = -1
"""Value of layer, step or head where there is none, and of the query frame where queries are in several frames."""

_RUN = "Id of the run, the name of its directory."
_CLIP = "Id of the clip."
_TASK = "The task that is measured: `correspondence`, `tracking`, `propagation`, `generation` or `intervention`."
_DATASET = "Name of the dataset."
_SPLIT = "Split of the dataset."
_ATTENTION = "Kind of attention: `full3d`, `factorised`, `linear` or `none`. Empty in the row of a failed clip."
_PROBE = "Name of the probe; `direct` for models that predict without attention, `video` for generated videos."
_LAYER = "Attention layer, from 0 in the order of execution; -1 without a site."
_LAYER_NAME = "Path of the attention module inside the denoiser."
_STEP = "Index into the scheduler's timesteps, 0 being the noisiest; -1 without a site or without noise."
_NOISE = (
    "Noise level of the step, sigma / (alpha + sigma); NaN without noise. If latent frames have noise levels of their "
    "own, the mean over the target latents."
)
_HEAD = "Attention head, from 0; -1 for one prediction from several heads together."
_SWITCHES = "Switches that differ from the variant, such as `time_map=stretched+scale=heads`; empty for none."
_TRACKER = "Tracker that made the reference tracks; `exact` if they are known by construction."
_TRACKER_VERSION = "Version of the tracker; 0 without reference tracks."
_POINTS = "N, the number of query points."
_ROUND_TRIP = (
    "Mode `invert`: peak signal-to-noise ratio of the video that is sampled again from the inverted latents; NaN in "
    "other modes."
)
_DATA_HASH = (
    "First 16 characters of a hash of the clip's content as the dataset gives it. In mode `renoise` and `invert`: "
    "video, queries and the data's own tracks. In mode `generate`: prompt, first frame, queries, seed, size of the "
    "video. Empty for a failed clip, or where an older vcorr did not record it."
)
_STILL = (
    "Zero-motion `pck_8` of the clip: share of its pairs whose point is within 8 px (of a 256x256 frame) of its query. "
    "It comes from the data's own tracks before the clip is resized or cropped, over the frames that the model reads. "
    "So it is the same for every model with that number of frames. NaN in mode `generate`, for data without tracks, "
    "for a clip that failed or has no such pair, and in older files."
)
_QUERY_MODE = (
    "How the query frames were chosen: `frame`, by the dataset; `first`, the first frame in which the point is "
    "visible; `strided`, every fifth frame in which it is visible."
)
_INPUT_CLASS = (
    "Resolution class of the clip: `256` for frames of at most 256x256 pixels, `full` for larger ones; empty where the "
    "dataset has none."
)
_HEIGHT = "H, of the video as the model read or made it; 0 for a failed clip."
_WIDTH = "W, of the video as the model read or made it; 0 for a failed clip."
_FRAMES = "T, number of video frames as the model read or made them; 0 for a failed clip."
_STATUS = "`ok` or `failed`; in `scores` also `not_scored`, for a value that is NaN."
_ERROR = "Kind and first line of the error of a failed clip; else empty."
_SHARE = "fractions in [0, 1]"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One value of one metric, for one clip, site and variant."""

    run: Text = column("", _RUN)
    model: Text = column("", "Name of the model, as typed after `--model`.")
    attention: Text = column("", _ATTENTION)
    weights: Text = column(
        "", "What identifies the weights: `embedded:HASH`, `hub:ID@REVISION`, `path:HASH`, `random:SEED` or `none`."
    )
    probe: Text = column("", _PROBE)
    dataset: Text = column("", _DATASET)
    split: Text = column("", _SPLIT)
    mode: Text = column(
        "",
        "`renoise`: noise is added to the clip; `generate`: the video is sampled from the prompt; `invert`: the clip "
        "is walked back along the model's own sampler.",
    )
    tracker: Text = column("", _TRACKER)
    clip: Text = column("", _CLIP)
    layer: Int32 = column(NONE, _LAYER)
    layer_name: Text = column("", _LAYER_NAME)
    step: Int32 = column(NONE, _STEP)
    noise: Float = column(NAN, _NOISE, _SHARE)
    head: Int32 = column(NONE, _HEAD)
    metric: Text = column(
        "",
        "Name of the score, a column of a metric; `NAME@DIMENSION:STRATUM` for one stratum of pairs. Empty in the one "
        "row of a clip that failed or has no tracks.",
    )
    variant: Text = column("corrected", "Variant under which it was scored: `corrected` or `difftrack`.")
    task: Text = column(CORRESPONDENCE, _TASK)
    value: Float = column(NAN, "The score; NaN means not scored.", _SHARE)
    floor: Float = column(NAN, "Score of standing still, on the same pairs; NaN without a ceiling.", _SHARE)
    ceiling: Float = column(NAN, "Largest score that the read-out allows, on the same pairs; NaN without one.", _SHARE)
    n: Int32 = column(0, "Number of (point, frame) pairs behind the value; of points for attention summaries.", "count")
    seed: Int64 = column(0, "Seed of the noise, as the run was asked for it; the seed of a clip also has its id in it.")
    status: Text = column("ok", _STATUS)
    error: Text = column("", _ERROR)
    switches: Text = column("", _SWITCHES)
    ceiling_kind: Text = column(
        "none",
        "What `ceiling` is (docs/protocol.md): `token_maximum`, the best of all sequences of tokens; `field_maximum`, "
        "the same for the sampled field of difftrack; `field_bound`, an upper bound of it; `free`, 1, because any "
        "position is possible; `none`, no ceiling. Before scoring version 2: `token_oracle` and `field_oracle`, the "
        "score of the nearest tokens, which predictions can pass, and `free`, the score of the reference at latent "
        "times. Empty where an older vcorr did not record it.",
    )
    metric_version: Int32 = column(0, "Version of the metric; 0 where it was not recorded, or without a metric.")
    scoring_version: Int32 = column(0, "Version of floors, ceilings and time map; 0 where it was not recorded.")
    tracker_version: Int32 = column(0, _TRACKER_VERSION)
    data_hash: Text = column("", _DATA_HASH)
    still: Float = column(NAN, _STILL, _SHARE)
    height: Int32 = column(0, _HEIGHT, "pixels")
    width: Int32 = column(0, _WIDTH, "pixels")
    frames: Int32 = column(0, _FRAMES, "count")
    token_height: Float = column(NAN, "Height of a token in the video as the model read it; NaN without one.", "pixels")
    token_width: Float = column(NAN, "Width of a token, likewise.", "pixels")
    input_class: Text = column("", _INPUT_CLASS)
    query_frame: Int32 = column(NONE, "Video frame of the queries; -1 where they are in several, or without any.")
    query_mode: Text = column("", f"{_QUERY_MODE} Empty without queries.")
    round_trip: Float = column(NAN, _ROUND_TRIP, "dB")
    cfg: Float = column(
        NAN, "Requested strength of classifier-free guidance; NaN for the pipeline's own, or where none is used."
    )
    guidance: Text = column("", "Method of guidance in addition to classifier-free guidance; empty for none.")
    guidance_scale: Float = column(NAN, "Scale of that method; NaN without one.")
    guidance_layers: Text = column("", "Layers in which it acts, such as `13,17,21`; empty without one.")
    guidance_steps: Text = column("", "Steps at which it acts, such as `0-24`; empty without one.")
    cut_kind: Text = column("", "Task `intervention`: what was done to the attention; empty if nothing was done.")
    cut_sites: Text = column(
        "", "Sites where it was done, as `LAYER[:STEP[:HEAD]]`, with commas; empty if nothing was done."
    )
    cut_dose: Float = column(NAN, "How much of it was done; NaN if nothing was done.", _SHARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRow:
    """What one probe predicted for one clip at one site."""

    run: Text = column("", _RUN)
    clip: Text = column("", _CLIP)
    probe: Text = column("", _PROBE)
    kind: Text = column(
        "",
        "`positions`: predicted positions of the points, in `xy`. `rows`: an attention summary, in `rows`. `video`: "
        "task `generation`, a video was generated and nothing was read; `points` is 0. `masks`: task `propagation`, "
        "the masks are in the run's folder `masks`; `points` is 0.",
    )
    attention: Text = column("", _ATTENTION)
    layer: Int32 = column(NONE, _LAYER)
    layer_name: Text = column("", _LAYER_NAME)
    step: Int32 = column(NONE, _STEP)
    noise: Float = column(NAN, _NOISE, _SHARE)
    head: Int32 = column(NONE, _HEAD)
    variant: Text = column("", "Variant under which it was read: `corrected` or `difftrack`.")
    switches: Text = column("", _SWITCHES)
    readout: Text = column("", "`token`: points can move by whole tokens alone. `free`: any position is possible.")
    grid: Text = column("", "The token grid as JSON: `TokenGrid.from_dict(json.loads(grid))`.")
    points: Int32 = column(0, _POINTS)
    latents: Int32 = column(0, "F, the number of latent frames.")
    query_frames: Ints = column((), "Video frame of each query: N.")
    xy: Floats = column((), "Positions of the points in every latent frame: N x F x (x, y), row-major.", "pixels")
    visible: Bools = column(
        (), "N x F, row-major; true where the probe says that the point can be seen. Empty if it does not say."
    )
    confidence: Floats = column((), "N x F, row-major: how sure the probe is. Empty if it does not say.", _SHARE)
    rows: Floats = column(
        (),
        "Attention summary, N x (F - 1 + 5): peak_cross of each latent frame but the query's, then peak_self, "
        "peak_text, sum_cross, sum_self, sum_text. The probe `head-traits` adds own_frame, temporal, diagonal, "
        "smoothness, sinks and second_eigenvalue, N x (F - 1 + 5 + 6); NaN where a trait does not exist.",
    )
    noise_frames: Floats = column((), "F: noise level of each latent frame, if they differ; else empty.", _SHARE)
    round_trip: Float = column(NAN, _ROUND_TRIP, "dB")
    task: Text = column(CORRESPONDENCE, _TASK)
    status: Text = column("ok", _STATUS)
    error: Text = column("", _ERROR)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackRow:
    """The reference tracks of one clip, with facts about the clip.

    Task `generation` has a second row per clip: the ways back. Their queries are the ends of the first row's tracks.
    """

    run: Text = column("", _RUN)
    clip: Text = column("", _CLIP)
    dataset: Text = column("", _DATASET)
    split: Text = column("", _SPLIT)
    prompt: Text = column("", "Prompt of the clip.")
    tracker: Text = column("", _TRACKER)
    tracker_version: Int32 = column(0, _TRACKER_VERSION)
    licence: Text = column(
        "",
        "Licence of the tracker. It applies to the tracks and to everything that is computed from them. Empty for "
        "tracks of a dataset that does not say.",
    )
    video: Text = column("", "Hash of the generated video that the tracks belong to; empty for the data's own videos.")
    data_hash: Text = column("", _DATA_HASH)
    still: Float = column(NAN, _STILL, _SHARE)
    height: Int32 = column(0, _HEIGHT, "pixels")
    width: Int32 = column(0, _WIDTH, "pixels")
    frames: Int32 = column(0, _FRAMES, "count")
    input_class: Text = column("", _INPUT_CLASS)
    points: Int32 = column(0, _POINTS)
    query_mode: Text = column("frame", _QUERY_MODE)
    query_frames: Ints = column((), "Video frame of each query: N.")
    queries: Floats = column((), "Query points, each in its frame: N x (x, y), row-major.", "pixels")
    xy: Floats = column((), "Positions of the points in every frame: N x T x (x, y), row-major.", "pixels")
    visible: Bools = column((), "N x T, row-major; true where the point can be seen.")
    confidence: Floats = column((), "N x T, row-major: how sure the tracker is. Empty if it does not say.", _SHARE)
    boundary: Floats = column(
        (),
        "N: distance in the query's frame from the point to the nearest boundary between layers (object, background); "
        "infinite where there is none, empty where it is not known.",
        "pixels",
    )
    point_layers: Ints = column(
        (),
        "N: the layer of each point in its query's frame: 0 the background, k > 0 the k-th thing in front of it, "
        "counted from the back, -1 where it is not known; empty if it is known for no point.",
    )
    task: Text = column(CORRESPONDENCE, _TASK)


Row: TypeAlias = ScoreRow | PredictionRow | TrackRow
ROWS: dict[TableName, type[Row]] = {"predictions": PredictionRow, "tracks": TrackRow, "scores": ScoreRow}

SCORES = arrow_schema(ScoreRow)
PREDICTIONS = arrow_schema(PredictionRow)
TRACKS = arrow_schema(TrackRow)

_SCHEMAS: dict[TableName, pa.Schema] = {"predictions": PREDICTIONS, "tracks": TRACKS, "scores": SCORES}
_CONVENTIONS = "pixels: x right, y down, outer corner of the first pixel at 0; noise: sigma/(alpha+sigma)"


@functools.cache
def _units_of(table: TableName) -> str:
    return f"{units(ROWS[table])}. {_CONVENTIONS}"


def schema(table: TableName, fingerprint: str = "") -> pa.Schema:
    """Returns the schema of a table with its metadata: layout version, units, and fingerprint of the writing stage."""
    return _SCHEMAS[table].with_metadata(
        {
            VERSION_KEY: str(SCHEMA_VERSION),
            TABLE_KEY: table,
            UNITS_KEY: _units_of(table),
            FINGERPRINT_KEY: fingerprint,
        }
    )
