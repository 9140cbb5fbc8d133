"""Converts decoded frames to RGB with an explicit matrix and range, and says in words what that changed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError

MATRICES = {1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020"}
"""Matrices that can be converted, by FFmpeg's number (AVColorSpace)."""

OTHER_MATRICES = {8: "YCgCo", 10: "BT.2020 with constant luminance", 14: "ICtCp"}
UNTAGGED = (0, 2, 3)
"""Numbers of files that name no matrix: RGB (which no YUV format can have), unspecified, reserved."""

BT601, LIMITED, FULL = 5, 1, 2
_HDR = {16: "PQ", 18: "HLG"}
"""Transfer functions of high dynamic range, by FFmpeg's number (AVColorTransferCharacteristic)."""

_HD = 720
"""Least height in pixels from which players read an untagged video as BT.709, and FFmpeg as BT.601."""


def to_rgb(frame: Any, name: str) -> NDArray[np.uint8]:
    """Returns a decoded frame (H, W, 3) uint8 RGB, as stored: neither turned nor mirrored.

    The frame's own matrix and range are used. A frame without a matrix is read as BT.601, and one without a range as
    limited, both as FFmpeg does.

    Raises:
        UsageError: its colours have a matrix that cannot be converted.
    """
    if _is_yuv(frame):
        # set by hand, because PyAV and FFmpeg do not agree on defaults from version to version
        frame.colorspace = _matrix(frame, name)
        frame.color_range = FULL if _is_full(frame) else LIMITED
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def describe_colour(frame: Any) -> tuple[str, ...]:
    """Returns what converting a frame to 8-bit RGB changes or assumes, as parts of sentences. Call before `to_rgb`."""
    said: list[str] = []
    if (curve := _HDR.get(int(frame.color_trc))) is not None:
        said.append(f"its brightness is coded for HDR ({curve}); it was read as stored, without tone mapping")
    if (bits := _bits(frame)) > 8:
        said.append(f"its {bits} bits per colour were reduced to 8")
    if _is_yuv(frame) and int(frame.colorspace) in UNTAGGED and frame.height >= _HD:
        said.append("it names no colour matrix; BT.601 was used, as in FFmpeg, where players may use BT.709")
    if frame.interlaced_frame:
        said.append("it is interlaced: each frame holds two moments, in alternate rows; the rows were read as stored")
    if _has_transparency(frame):
        said.append("it is partly transparent; the colours that are stored there were read")
    return tuple(said)


def _matrix(frame: Any, name: str) -> int:
    number = int(frame.colorspace)
    if number in MATRICES:
        return number
    if number in UNTAGGED:
        return BT601
    kind = OTHER_MATRICES.get(number, f"number {number} of FFmpeg")
    raise UsageError(
        f"{name} stores its colours with the matrix {kind}, which cannot be converted to RGB.",
        hint="Encode it again with the matrix BT.709: ffmpeg -i IN -vf zscale=matrix=709 OUT.mp4",
    )


def _is_yuv(frame: Any) -> bool:
    form = frame.format
    return not form.is_rgb and not form.has_palette and len(form.components) >= 3


def _is_full(frame: Any) -> bool:
    return frame.format.name.startswith("yuvj") or int(frame.color_range) == FULL


def _bits(frame: Any) -> int:
    return max((int(part.bits) for part in frame.format.components), default=8)


def _has_transparency(frame: Any) -> bool:
    if not any(part.is_alpha for part in frame.format.components):
        return False
    return bool(frame.reformat(format="rgba").to_ndarray()[..., 3].min() < 255)
