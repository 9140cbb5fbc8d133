"""Finds out from the structure of a file whether its end is missing: FFmpeg reads such a file without an error."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_TS_PACKETS = (188, 192)
"""Bytes of a packet of MPEG-TS, without and with the time stamp of cameras and discs."""
_TS_SYNC = 0x47
_UNKNOWN = (0, 0xFFFFFFFF)
"""Lengths in RIFF files whose writer did not know them."""
_SEGMENT = b"\x18\x53\x80\x67"
_FLV_SIZE = b"\x00\x08filesize\x00"
_FLV_TAG, _FLV_BACK = 11, 4
"""Bytes of the head of a tag, and of the number after it."""
_HEAD = 4096
"""Bytes at the beginning that are looked at."""


def find_cut(path: Path) -> bool:
    """Returns whether a file ends before the end that its structure states. False if the format states none.

    Known are MP4 and MOV, Matroska and WebM, AVI, FLV, GIF, and MPEG-TS, which ends between two packets.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
        size = os.fstat(file.fileno()).st_size
        return any(check(file, head, size) for check in _CHECKS)


def _is_cut_mp4(file: BinaryIO, head: bytes, size: int) -> bool:
    if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return False
    position = 0
    while position + 8 <= size:
        file.seek(position)
        box = file.read(16)
        length = int.from_bytes(box[:4], "big")
        if length == 1:  # a 64-bit length follows the type
            length = int.from_bytes(box[8:16], "big")
        if length < 8:  # 0: the box reaches to the end of the file
            return False
        position += length
    return position > size


def _is_cut_matroska(file: BinaryIO, head: bytes, size: int) -> bool:
    at = head.find(_SEGMENT) if head.startswith(b"\x1a\x45\xdf\xa3") else -1
    if at < 0 or at + 12 > len(head):
        return False
    first = head[at + 4]
    width = 9 - first.bit_length()  # the first set bit says how many bytes the length has
    if not 1 <= width <= 8:
        return False
    length = int.from_bytes(head[at + 4 : at + 4 + width], "big") & ((1 << 7 * width) - 1)
    unknown = length == (1 << 7 * width) - 1
    return not unknown and at + 4 + width + length > size


def _is_cut_riff(file: BinaryIO, head: bytes, size: int) -> bool:
    length = int.from_bytes(head[4:8], "little")
    return head[:4] == b"RIFF" and length not in _UNKNOWN and 8 + length > size


def _is_cut_ts(file: BinaryIO, head: bytes, size: int) -> bool:
    for length in _TS_PACKETS:
        offset = length - 188
        if len(head) > 3 * length and all(head[offset + n * length] == _TS_SYNC for n in range(3)):
            return size % length != 0
    return False


def _is_cut_flv(file: BinaryIO, head: bytes, size: int) -> bool:
    """Walks over the tags of an FLV, and compares the size that its metadata state."""
    if head[:3] != b"FLV":
        return False
    if (at := head.find(_FLV_SIZE)) >= 0 and at + len(_FLV_SIZE) + 8 <= len(head):
        (stated,) = struct.unpack_from(">d", head, at + len(_FLV_SIZE))
        if stated > size:
            return True
    position = int.from_bytes(head[5:9], "big") + _FLV_BACK
    while position + _FLV_TAG <= size:
        file.seek(position + 1)
        position += _FLV_TAG + int.from_bytes(file.read(3), "big") + _FLV_BACK
    return position != size


def _is_cut_gif(file: BinaryIO, head: bytes, size: int) -> bool:
    """Walks over the blocks of a GIF to its trailer."""
    if head[:6] not in (b"GIF87a", b"GIF89a") or size < 13:
        return False
    file.seek(13 + _palette_bytes(head[10]))
    while kind := file.read(1):
        if kind == b";":
            return False
        if kind == b",":
            described = file.read(9)
            if len(described) < 9:
                return True
            file.seek(_palette_bytes(described[8]) + 1, os.SEEK_CUR)
        elif kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            return True
        while length := file.read(1)[:1].ljust(1, b"\0")[0]:
            file.seek(length, os.SEEK_CUR)
    return True


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


_CHECKS: tuple[Callable[[BinaryIO, bytes, int], bool], ...] = (
    _is_cut_mp4,
    _is_cut_matroska,
    _is_cut_riff,
    _is_cut_ts,
    _is_cut_flv,
    _is_cut_gif,
)
