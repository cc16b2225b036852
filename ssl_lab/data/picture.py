"""One picture: encoded bytes of any kind in, square RGB pixels out, as a viewer would show it."""

from io import BytesIO
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

Store = Literal["crop", "square", "pad"]

# Formats that PIL decodes by itself. The others are left out for safety: EPS, for one, starts Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "TGA", "ICO")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".tga", ".ico"}
)

# Pixels in the header above which a picture is refused undecoded: 0.5 GB as RGB. PIL's own bound for an error.
LARGEST = 178_956_970

VOID = 255  # in a mask: a pixel of no class


class Square(NamedTuple):
    """How pictures become squares: `side` in pixels; `store` crop (centre), square (stretch) or pad (black)."""

    side: int
    store: Store


def read_picture(encoded: bytes, side: int) -> Image.Image:
    """Decodes a picture to RGB as a viewer shows it, at least `2 * side` large where it is a larger JPEG.

    First frame of animations, EXIF orientation applied, transparency laid on white, 16 bits scaled to 8.
    Colour profiles are not applied. Raises ValueError or OSError with the reason.
    """
    try:
        image: Image.Image = Image.open(BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError:  # its message names an object in memory
        raise ValueError(f"no picture: {len(encoded):,} bytes that begin with {encoded[:8]!r}") from None
    if image.width * image.height > LARGEST:
        raise ValueError(f"{image.width} x {image.height} pixels, more than the allowed {LARGEST}")
    image.draft(None, (2 * side, 2 * side))  # JPEGs decode at 1/2, 1/4 or 1/8: most of the time saved on photographs
    image.load()
    return to_rgb(ImageOps.exif_transpose(image))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of PIL to RGB; transparent parts become white, as on a page."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_eight_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Deep gray values scaled to 0 … 255 (PIL would clip them). Floats are taken to lie in [0, 1]."""
    values = np.asarray(image).astype(np.float64)
    top = 1.0 if image.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= top):
        raise ValueError(f"gray values {values.min():g} … {values.max():g} lie outside 0 … {top:g}")
    return Image.fromarray((values * (255 / top) + 0.5).astype(np.uint8))


def to_square(
    image: Image.Image, square: Square, method: Image.Resampling = Image.Resampling.BICUBIC, padding: int = 0
) -> Image.Image:
    """Resizes (bicubic, antialiased) and crops, stretches or pads to a square of `square.side`.

    crop: the short side fills the square, the centre is kept. square: both sides are resized. pad: the long
    side fills the square, the rest is `padding`, black.
    """
    width, height = image.size
    if square.store == "pad":
        return ImageOps.pad(image, (square.side, square.side), method, color=padding)
    if (width, height) == (square.side, square.side):
        return image
    short = min(width, height)
    left, top = (width - short) / 2, (height - short) / 2
    box = (left, top, left + short, top + short) if square.store == "crop" else (0, 0, width, height)
    return image.resize((square.side, square.side), method, box, reducing_gap=3.0)


def to_pixels(picture: bytes | NDArray[np.uint8], square: Square) -> tuple[NDArray[np.uint8], bool]:
    """Square pixels (side, side, 3) of an encoded or decoded picture, and whether it had to be enlarged.

    A decoded picture is (h, w) gray or (h, w, 3) RGB. Raises ValueError or OSError with the reason.
    """
    image = read_picture(picture, square.side) if isinstance(picture, bytes) else to_rgb(Image.fromarray(picture))
    return np.asarray(to_square(image, square)), min(image.size) < square.side


def to_mask(encoded: bytes, square: Square) -> NDArray[np.uint8]:
    """The class of each pixel (side, side) of an encoded mask, made square as its picture is; padded with VOID.

    A mask has one value a pixel, its class: gray levels, or the numbers of a palette. Nothing is interpolated.
    Raises ValueError or OSError with the reason.
    """
    image: Image.Image = Image.open(BytesIO(encoded), formats=("PNG", "GIF", "BMP", "TIFF"))
    if image.mode not in ("L", "P", "1"):
        raise ValueError(f"a mask of mode {image.mode}; allowed: one class a pixel, as gray or palette of 8 bits")
    numbers = Image.fromarray(np.asarray(image).astype(np.uint8))
    return np.asarray(to_square(numbers, square, Image.Resampling.NEAREST, VOID))
