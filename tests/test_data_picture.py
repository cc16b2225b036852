"""Every kind of picture is read as a viewer would show it."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from ssl_lab.data import picture
from ssl_lab.data.picture import Square, read_picture, to_pixels, to_square


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixel(encoded: bytes, side: int = 8) -> tuple[int, ...]:
    """Colour in the middle of the picture."""
    pixels, _ = to_pixels(encoded, Square(side, "crop"))
    assert pixels.shape == (side, side, 3)
    assert pixels.dtype == np.uint8
    return tuple(pixels[side // 2, side // 2].tolist())


def test_gray_is_repeated():
    assert pixel(encode(Image.new("L", (8, 8), 90))) == (90, 90, 90)


def test_one_bit():
    assert pixel(encode(Image.new("1", (8, 8), 1))) == (255, 255, 255)


def test_sixteen_bit_gray_is_scaled_not_clipped():
    deep = Image.fromarray(np.full((8, 8), 128 * 257, np.uint16))
    assert pixel(encode(deep)) == (128, 128, 128)
    assert pixel(encode(deep, "TIFF")) == (128, 128, 128)


def test_sixteen_bit_colour():
    # PIL cannot write 16-bit RGB, so the PNG is put together here: 8x8, colour type 2, depth 16.
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" + struct.pack(">HHH", 200 * 257, 100 * 257, 50 * 257) * 8
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")
    assert pixel(b"\x89PNG\r\n\x1a\n" + parts) == (200, 100, 50)


def test_floats_and_other_ranges():
    assert pixel(encode(Image.fromarray(np.full((8, 8), 0.5, np.float32)), "TIFF")) == (128, 128, 128)
    with pytest.raises(ValueError, match="outside 0 … 1"):
        pixel(encode(Image.fromarray(np.full((8, 8), 7.0, np.float32)), "TIFF"))


def test_cmyk():
    red, green, blue = pixel(encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert red > 240
    assert green < 20
    assert blue < 20


def test_palette_with_and_without_transparency():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert pixel(encode(image)) == (10, 200, 30)
    assert pixel(encode(image, transparency=1)) == (255, 255, 255)
    assert pixel(encode(image, transparency=b"\xff\x00")) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (200, 0, 0, 0)), ("LA", (0, 0))])
def test_transparency_is_white(mode, colour):
    assert pixel(encode(Image.new(mode, (8, 8), colour))) == (255, 255, 255)


def test_half_transparency_mixes_with_white():
    red, green, _ = pixel(encode(Image.new("RGBA", (8, 8), (200, 0, 0, 128))))
    assert abs(red - 227) <= 1
    assert abs(green - 127) <= 1


def test_transparent_colour_of_rgb():
    assert pixel(encode(Image.new("RGB", (8, 8), (9, 9, 9)), transparency=(9, 9, 9))) == (255, 255, 255)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_applied(kind):
    image = Image.new("RGB", (16, 8), "white")
    image.paste("black", (0, 0, 8, 8))  # left half; turned a quarter clockwise it is the upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = read_picture(encode(image, kind, exif=exif), 8)
    assert upright.size == (8, 16)
    assert upright.getpixel((4, 2))[0] < 30
    assert upright.getpixel((4, 13))[0] > 225


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_animations_show_their_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    assert pixel(encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["BMP", "PPM", "TGA", "JPEG2000", "AVIF", "ICO"])
def test_other_formats(kind):
    assert np.abs(np.array(pixel(encode(Image.new("RGB", (16, 16), (60, 120, 180)), kind))) - (60, 120, 180)).max() < 8


def test_large_header_is_refused_before_decoding(monkeypatch):
    encoded = encode(Image.new("L", (300, 200)))
    monkeypatch.setattr(picture, "LARGEST", 50_000)
    with pytest.raises(ValueError, match=r"300 x 200 pixels, more than the allowed 50000"):
        read_picture(encoded, 8)


def test_cut_off_and_foreign_bytes_are_refused():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    with pytest.raises(OSError, match="truncated"):
        read_picture(encode(Image.fromarray(noise), "JPEG")[:-500], 64)
    with pytest.raises(ValueError, match="no picture: 5 bytes"):
        read_picture(b"hello", 8)
    with pytest.raises(ValueError, match="no picture"):
        read_picture(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 8)  # would start Ghostscript


def test_squares():
    image = Image.new("RGB", (40, 20), "red")
    image.paste("blue", (10, 0, 30, 20))  # the centre square
    crop = np.asarray(to_square(image, Square(10, "crop")))
    square = np.asarray(to_square(image, Square(10, "square")))
    pad = np.asarray(to_square(image, Square(10, "pad")))
    assert crop[5, 5].tolist() == [0, 0, 255]
    assert crop[5, 1].tolist() == [0, 0, 255]
    assert square[5, 0].tolist() == [255, 0, 0]
    assert pad[0, 5].tolist() == [0, 0, 0]
    assert pad[5, 0].tolist() == [255, 0, 0]


def test_large_jpeg_equals_plain_resize():
    """Reduced decoding is a short cut, not another picture."""
    ramp = np.linspace(0, 255, 640).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (480, 1))] * 3, -1))
    fast, small = to_pixels(encode(image, "JPEG", quality=95), Square(32, "crop"))
    plain = image.crop((80, 0, 560, 480)).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.abs(fast.astype(int) - np.asarray(plain)).max() <= 3
    assert not small
    assert to_pixels(encode(image), Square(481, "crop"))[1]
