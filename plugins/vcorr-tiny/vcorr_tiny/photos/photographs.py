"""Lists the photographs: what each shows, who made it, its licence, its split and a hash of its pixels.

All are files of the package scikit-image, and sources and licences are stated as in the docstrings of ``skimage.data``.
No picture is in two splits.
Left out are pictures that do not show a scene or a surface: ``logo``, ``page``, ``text``, ``color``, ``horse``,
``phantom`` and the chessboards. Also left out are ``microaneurysms`` (too small), ``cell`` (almost empty) and
``clock_motion``, whose blur is in the file. The docstring of ``moon`` states no licence, so it is left out too.
The motorcycle pair is the dataset `stereo`.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from vcorr import UsageError, unknown_name
from vcorr_tiny.sprites.split_names import SPLITS

CC0, NASA = "CC0", "public domain (NASA)"
UNRESTRICTED = "no known copyright restrictions"


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One photograph.

    file: its name in the folder ``skimage/data``. box: the part that is used, (left, top, right, bottom) in pixels; all
    of it if None. sha256: hash of the pixels of that part, as `pixels_hash` computes it.
    """

    name: str
    file: str
    shows: str
    source: str
    licence: str
    split: str
    sha256: str
    box: tuple[int, int, int, int] | None = None


PHOTOGRAPHS = (
    Photograph(
        name="astronaut",
        file="astronaut.png",
        shows="Eileen Collins in an orange suit, in front of a flag and a model of a shuttle",
        source="NASA Great Images",
        licence=NASA,
        split="train",
        sha256="7605af19ba2b975845037d479d9429d3fbc334ff78c7b51f67f112d50f85ed65",
    ),
    Photograph(
        name="camera",
        file="camera.png",
        shows="a man with a camera on a lawn; grey",
        source="Lav Varshney",
        licence=CC0,
        split="train",
        sha256="bf98e824a0e89e0e5fc9883963758bfd21453203a3fb1f22a32c108d939ffac6",
    ),
    Photograph(
        name="grass",
        file="grass.png",
        shows="grass and leaves; grey",
        source="linolafett, DeviantArt",
        licence=CC0,
        split="train",
        sha256="4893a5041b9268d1c29dcc9cdf6e79f40c66c5c37f3c7a5c0dcfecfa3e73bb50",
    ),
    Photograph(
        name="hubble",
        file="hubble_deep_field.jpg",
        shows="galaxies in front of black (Hubble eXtreme Deep Field)",
        source="NASA, HubbleSite",
        licence=NASA,
        split="train",
        sha256="b368ad50e13b6113ba330ad1fdd6dbe41ad8074c2c97791f5f34d510b886586e",
    ),
    Photograph(
        name="ihc",
        file="ihc.png",
        shows="stained glands of a colon, through a microscope",
        source="Center for Microscopy And Molecular Imaging (CMMI)",
        licence=UNRESTRICTED,
        split="train",
        sha256="d5e9af0ebdb1dc92a7d75c8ab96cea1d3a319323027d0c7926060f8f4eba9519",
    ),
    Photograph(
        name="retina",
        file="retina.jpg",
        shows="a human retina; the square inside its round edge",
        source="Wikimedia Commons, Fundus photograph of normal left eye",
        licence=CC0,
        split="train",
        sha256="4a282ce6dc0a72859b90ec223a514f4772625c1484a60b1e585d2ad2e14f85df",
        box=(225, 225, 1185, 1185),
    ),
    Photograph(
        name="coins",
        file="coins.png",
        shows="Greek coins on a dark ground; grey",
        source="Brooklyn Museum Collection",
        licence=UNRESTRICTED,
        split="validation",
        sha256="8b1c53f5b1e7777136997a7597388c6a234c1306d77175d0de5cbd8ec72b0c20",
    ),
    Photograph(
        name="rocket",
        file="rocket.jpg",
        shows="a Falcon 9 and its towers at dusk",
        source="SpaceX",
        licence="public domain (SpaceX)",
        split="validation",
        sha256="9d55b6a566c73f3c20e2e36b81acc5d14fddc66453247ba544eced175a87cf54",
    ),
    Photograph(
        name="brick",
        file="brick.png",
        shows="a brick wall; grey",
        source="CC0Textures, Bricks25",
        licence=CC0,
        split="test",
        sha256="99a19145a42e52da5b5b773b8119c94ea04cf5c0242e95ffbaa0293713878bb7",
    ),
    Photograph(
        name="chelsea",
        file="chelsea.png",
        shows="the face of a cat",
        source="Stefan van der Walt",
        licence=CC0,
        split="test",
        sha256="2a48da897e30584d1ae09abf8802730963e97735ab7f4ccede25b412ab11e5dd",
    ),
    Photograph(
        name="coffee",
        file="coffee.png",
        shows="a red cup on a wooden table",
        source="Rachel Michetti, courtesy of Pikolo Espresso Bar",
        licence=CC0,
        split="test",
        sha256="013a8175a6f60538e29aa8bee676f3e4b4c9a4388defc9a81368b20fc7b3fe9c",
    ),
    Photograph(
        name="gravel",
        file="gravel.png",
        shows="gravel; grey",
        source="CC0Textures, Gravel04",
        licence=CC0,
        split="test",
        sha256="53724b7da1e0a01104d6e14da4dd2ca65a3ead9a2a69f0eb6f20121f8bb7b2ec",
    ),
)
"""All photographs, by split and name."""

BY_NAME = {photograph.name: photograph for photograph in PHOTOGRAPHS}


def photographs_of(split: str) -> tuple[Photograph, ...]:
    """Returns the photographs of ``split``.

    Raises:
        UsageError: there is no such split.
    """
    if split not in SPLITS:
        raise unknown_name("split of the photographs", split, SPLITS)
    return tuple(photograph for photograph in PHOTOGRAPHS if photograph.split == split)


def pixels_hash(pixels: bytes, shape: Sequence[int]) -> str:
    """Returns the SHA-256 of an array's bytes in row-major order, together with its shape."""
    return hashlib.sha256(f"{tuple(shape)}".encode() + pixels).hexdigest()


def check_picture(name: str, sha256: str, split: str, where: str) -> None:
    """Checks that a stored picture is the listed photograph ``name`` and belongs to ``split``.

    Raises:
        UsageError: the name is not listed, the photograph belongs to another split, or the pixels are others than the
            listed ones; ``where`` names the file in the message.
    """
    known = BY_NAME.get(name)
    if known is None:
        raise UsageError(f"{where} holds {name!r}, which is no photograph of vcorr-tiny.", hint=_EXPORT.format(split))
    if known.split != split:
        raise UsageError(
            f"{where} holds {name!r}, a photograph of the split {known.split}, but {split} was asked for.",
            hint=_EXPORT.format(split),
        )
    if known.sha256 != sha256:
        raise UsageError(
            f"The pixels of {name!r} in {where} are not the ones that vcorr-tiny lists.", hint=_EXPORT.format(split)
        )


_EXPORT = "Write the file again: python -m vcorr_tiny.photos export FILE.safetensors --split {}"
