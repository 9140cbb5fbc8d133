"""Says from the first bytes of a file what is wrong with it, where FFmpeg's own words do not help."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vcorr.contract.errors import UsageError

_HEAD = 4096
"""Bytes that are looked at."""


def refuse_playlist(path: Path, name: str) -> None:
    """Refuses a file that lists other files or addresses, whatever its suffix: FFmpeg would open what it names.

    Raises:
        UsageError: the file is a playlist, or cannot be read.
    """
    try:
        head = _read_head(path)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from error
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    listed = text.startswith((b"#EXTM3U", b"ffconcat version", b"[playlist]", b"v=0\r\n", b"v=0\n"))
    if listed or (text.startswith(b"<") and (b"<MPD" in head or b"<AssetMap" in head or b"<smil" in head)):
        raise UsageError(f"{name} is a playlist: it names other files and holds no video.", hint="Name the video file.")


def explain_head(path: Path) -> tuple[str, str] | None:
    """Returns what is wrong with a file that FFmpeg cannot read, and what to do; None if that is not known."""
    head = _read_head(path)
    lowered = head[:512].lstrip().lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a video", "The download went wrong: save the video itself."
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS; the video itself is not here", "Get it: git lfs pull"
    if not head.strip(b"\0"):
        return "begins with zeros only: its content was lost", "Copy it again."
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "is a WebP picture that this FFmpeg cannot decode (an animated one)", "Convert it to mp4 or gif."
    if head[4:8] in (b"ftyp", b"mdat", b"wide") and b"moov" not in _top_boxes(path):
        return (
            "is cut off: its index (the moov box), which is written last, is missing",
            "The recording or the copy stopped too early. Copy the file again.",
        )
    return None


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _top_boxes(path: Path) -> list[bytes]:
    """Returns the types of the outermost boxes of an MP4 or MOV file that begin within it."""
    return list(_walk_boxes(path))


def _walk_boxes(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            if length == 1:  # a 64-bit length follows the type
                length = int.from_bytes(head[8:16], "big")
            yield head[4:8]
            if length < 8:  # 0: the box reaches to the end of the file
                return
            position += length
