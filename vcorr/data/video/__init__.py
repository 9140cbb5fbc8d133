"""Video files: reads any format, stores videos bit for bit, and draws tracks over them."""

from __future__ import annotations

from vcorr.data.video.error_colours import ErrorScale
from vcorr.data.video.layer_maps import layers_hash, read_layers, write_layers
from vcorr.data.video.lossless import read_lossless, video_hash, write_lossless
from vcorr.data.video.track_drawing import Drawing, draw_overlay, write_overlay
from vcorr.data.video.video_info import VideoInfo
from vcorr.data.video.video_reader import ReadVideo, read_video

__all__ = [
    "Drawing",
    "ErrorScale",
    "ReadVideo",
    "VideoInfo",
    "draw_overlay",
    "layers_hash",
    "read_layers",
    "read_lossless",
    "read_video",
    "video_hash",
    "write_layers",
    "write_lossless",
    "write_overlay",
]
