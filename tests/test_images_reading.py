"""Pictures of every kind from files and from bytes, against pixels that were made by hand."""

import io
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import nn

import weightatlas as wa
from weightatlas.errors import ArgumentError, LoadError
from weightatlas.lens import picture_from, picture_notes, read_image, reading

RNG = np.random.default_rng(0)
GREY, RGB = (RNG.integers(0, 256, shape, np.uint8) for shape in ((6, 9), (6, 9, 3)))
SMOOTH = np.asarray(Image.fromarray(RNG.integers(60, 200, (3, 4, 3), np.uint8)).resize((64, 48), Image.Resampling.BICUBIC))  # fmt: skip


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def deep_png(values, colour, extra=b""):
    """A PNG with 16 bits a channel, byte by byte: values [H, W, C], the colour type of PNG."""
    h, w = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def on_white(colour, alpha):
    share = alpha[..., None].astype(float) / 255
    return colour * share + 255 * (1 - share)


def test_plain_ones_are_kept_as_they_are(tmp_path):
    (tmp_path / "a.png").write_bytes(saved(RGB))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), saved(RGB), io.BytesIO(saved(RGB))):
        assert np.array_equal(read_image(source, "RGB"), RGB)
    assert np.array_equal(picture_from(saved(GREY), "L")[..., 0], GREY)
    assert np.array_equal(picture_from(saved(GREY), "RGB"), np.stack([GREY] * 3, 2))
    luma = RGB.astype(float) @ [0.299, 0.587, 0.114]
    assert picture_from(saved(RGB), "L")[..., 0].astype(float) == pytest.approx(luma, abs=1)
    for kind in ("BMP", "TIFF", "PPM"):
        assert np.array_equal(picture_from(saved(RGB, kind)), RGB), kind
    assert np.array_equal(picture_from(saved(RGB, "WEBP", lossless=True)), RGB)
    bits = Image.fromarray(GREY > 127)
    assert np.array_equal(picture_from(saved(bits))[..., 0], np.where(GREY > 127, 255, 0))


def test_what_is_transparent_lies_on_white():
    alpha = GREY[::-1].copy()
    alpha[0], alpha[1] = 0, 255
    found = picture_from(saved(np.dstack([RGB, alpha])))
    assert found.astype(float) == pytest.approx(on_white(RGB, alpha), abs=1)
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)])
    expected = on_white(GREY[..., None], alpha)
    assert picture_from(saved(grey), "L").astype(float) == pytest.approx(expected, abs=1)
    palette = Image.fromarray(RGB).quantize(8)
    opaque = np.asarray(palette.convert("RGB"))
    assert np.array_equal(picture_from(saved(palette)), opaque)
    clear = np.asarray(palette) == 3
    assert clear.any()
    found = picture_from(saved(palette, transparency=3))
    assert np.array_equal(found, np.where(clear[..., None], 255, opaque))
    shares = bytes([0, 128, 255, 255, 255, 255, 255, 255])
    found = picture_from(saved(palette, transparency=shares))
    alpha = np.frombuffer(shares, np.uint8)[np.asarray(palette)]
    assert found.astype(float) == pytest.approx(on_white(opaque, alpha), abs=1)
    assert picture_notes(saved(palette, transparency=3)) == ("laid on white where it is transparent",)


@pytest.mark.parametrize(("channels", "colour"), [(1, 0), (3, 2), (2, 4), (4, 6)])
def test_sixteen_bits_a_channel(channels, colour):
    """Grey is rounded; of colours the decoder keeps the upper byte, which is at most one level below."""
    values = RNG.integers(0, 65536, (6, 9, channels))
    values[0, :2, :] = [[0], [65535]]
    if channels in (2, 4):
        values[..., -1] = 65535  # opaque
    seen = values[..., : 1 if channels < 3 else 3]
    found = picture_from(deep_png(values, colour), "L" if channels < 3 else "RGB").astype(int)
    exact = np.rint(seen / 257).astype(int)
    if channels == 1:
        assert np.array_equal(found, exact)
        assert picture_notes(deep_png(values, colour)) == ("16 bits a channel rounded to 8",)
    else:
        assert np.array_equal(found, seen >> 8)
        assert np.abs(found - exact).max() <= 1
    assert found[0, 0].tolist() == [0] * seen.shape[2]
    assert found[0, 1].tolist() == [255] * seen.shape[2]


def test_sixteen_bits_in_other_files_and_with_a_transparent_grey():
    values = RNG.integers(0, 65536, (6, 9, 1))
    exact = np.rint(values[..., 0] / 257)
    tiff = saved(Image.fromarray(values[..., 0].astype(np.uint16)), "TIFF")
    assert np.array_equal(picture_from(tiff, "L")[..., 0], exact)
    clear = int(values[2, 3, 0])
    found = picture_from(deep_png(values, 0, chunk(b"tRNS", struct.pack(">H", clear))), "L")[..., 0]
    assert np.array_equal(found, np.where(values[..., 0] == clear, 255, exact))


def test_kinds_without_a_fixed_range_are_refused():
    for values in (RNG.random((4, 5)).astype(np.float32), RNG.integers(-9, 9, (4, 5)).astype(np.int32)):
        with pytest.raises(LoadError, match="without a fixed range; save it with 8 or 16 bits"):
            picture_from(saved(Image.fromarray(values), "TIFF"))


class TestCmyk:
    """By hand: R = 255 · (1 − C) · (1 − K); JPEG at its best quality is off by a few levels."""

    @staticmethod
    def inks():
        c, m, y = np.moveaxis(SMOOTH, 2, 0)
        return np.stack([c, m, y, SMOOTH[::-1, :, 1] // 3], 2)

    @staticmethod
    def colours(inks):
        share = 1 - inks.astype(float) / 255
        return 255 * share[..., :3] * share[..., 3:]

    def jpeg(self, planes):
        """Adobe's kind, in which inks are kept inverted; so are the planes when the marker says nothing."""
        return saved(Image.fromarray(planes, "CMYK"), "JPEG", quality=100, subsampling=0)

    def test_adobes_inverted_kind(self):
        data = self.jpeg(self.inks())
        assert b"Adobe" in data
        assert picture_from(data).astype(float) == pytest.approx(self.colours(self.inks()), abs=8)
        assert picture_notes(data) == ("CMYK turned into RGB without a colour profile",)

    def test_the_plain_kind(self):
        data = self.jpeg(255 - self.inks())  # what is stored is then the inks themselves
        start = data.index(b"\xff\xee")
        length = struct.unpack(">H", data[start + 2 : start + 4])[0]
        data = data[:start] + data[start + 2 + length :]
        assert b"Adobe" not in data
        assert picture_from(data).astype(float) == pytest.approx(self.colours(self.inks()), abs=8)

    def test_ycck(self):
        """Y, Cb and Cr of the inverted inks, with the marker's transform set to 2."""
        inverted = 255 - self.inks()
        ycc = np.asarray(Image.fromarray(255 - inverted[..., :3]).convert("YCbCr"))  # of the colours 255 − C …
        stored = np.dstack([ycc, inverted[..., 3]])
        data = bytearray(self.jpeg(255 - stored))
        place = data.index(b"Adobe") + 11
        assert data[place] == 0
        data[place] = 2
        found = picture_from(bytes(data)).astype(float)
        assert found == pytest.approx(self.colours(self.inks()), abs=10)


TURNS = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2), 6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: a.transpose(1, 0, 2)[::-1],
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_upright_by_exif(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    found = picture_from(saved(SMOOTH, kind, exif=exif, **options))
    expected = TURNS[orientation](SMOOTH)
    assert found.shape == expected.shape
    assert found.astype(float) == pytest.approx(expected.astype(float), abs=4 if kind == "JPEG" else 0)
    turned = picture_notes(saved(SMOOTH, kind, exif=exif, **options))
    assert turned == (("turned upright",) if orientation > 1 else ())


def test_sixteen_bits_are_turned_too(tmp_path):
    values = RNG.integers(0, 65536, (6, 9, 1))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = deep_png(values, 0, chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    assert np.array_equal(picture_from(data, "L"), TURNS[6](np.rint(values / 257)))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_moving_pictures_the_first_frame(kind):
    frames = [Image.new("RGB", (9, 6), colour) for colour in ("red", "blue", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=40, **options)
    assert (picture_from(data) == [255, 0, 0]).all()
    assert picture_notes(data) == ("the first of its frames",)


def test_profiles_are_told_and_not_applied():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(picture_from(saved(RGB, icc_profile=profile)), RGB)
    assert picture_notes(saved(RGB, icc_profile=profile)) == ("its colour profile not applied",)
    assert picture_notes(saved(RGB)) == ()


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)])
def test_pictures_of_odd_sizes_fit_a_network(size):
    net = wa.load(nn.Sequential(nn.Conv2d(3, 2, 3)), input=wa.InputSpec(shape=(3, 32, 32)))
    pixels = picture_from(saved(np.full((*size, 3), 128, np.uint8)))
    assert pixels.shape == (*size, 3)
    torch.testing.assert_close(net.preprocess([pixels]), torch.full((1, 3, 32, 32), 128 / 255))


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", "it is empty"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is no BMP, GIF, .* or WEBP"),
            (b"plain text", "it is no BMP"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no BMP"),  # another program would be started
            (saved(SMOOTH)[:900], "truncated|broken"),
            (saved(SMOOTH, "JPEG")[:400], "[Tt]runcated"),
            (saved(RGB.repeat(9, 0).repeat(9, 1), "JPEG")[:900], "truncated"),
            (saved(SMOOTH, "WEBP")[:100], "WEBP|decod"),
            (b"\x89PNG\r\n\x1a\n", "PNG|it is no|EOF|read"),
        ],
        ids=["empty", "svg", "text", "eps", "png", "jpeg head", "jpeg", "webp", "head"],
    )
    def test_with_the_reason(self, tmp_path, data, words):
        with pytest.raises(LoadError, match=f"^the picture cannot be read as an image: .*({words})"):
            picture_from(data)
        (tmp_path / "x.png").write_bytes(data)
        with pytest.raises(LoadError, match=rf"x\.png cannot be read as an image: .*({words})") as raised:
            read_image(tmp_path / "x.png", "RGB")
        assert str(raised.value).count("x.png") == 1

    def test_folders_and_nothing(self, tmp_path):
        (tmp_path / "x.png").mkdir()
        with pytest.raises(LoadError, match=r"x\.png cannot be read as an image: Is a directory"):
            read_image(tmp_path / "x.png", "RGB")
        with pytest.raises(LoadError, match=r"y\.png cannot be read as an image: No such file"):
            read_image(tmp_path / "y.png", "RGB")

    def test_bombs(self):
        """A few kilobytes that say they are of a billion pixels; and whatever is more than the caller allows."""
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 30000, 8, 2, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
        with pytest.raises(LoadError, match=r"its 1,200,000,000 pixels exceed the limit of 89,478,485 pixels$"):
            picture_from(bomb)
        large = bomb.replace(head, chunk(b"IHDR", struct.pack(">IIBBBBB", 10000, 9000, 8, 2, 0, 0, 0)))
        with pytest.raises(LoadError, match=r"its 10000 × 9000 pixels exceed the limit of 89,478,485 pixels$"):
            picture_from(large)  # of which the decoder only warns
        assert picture_from(saved(RGB), most_pixels=54).shape == (6, 9, 3)
        with pytest.raises(LoadError, match=r"9 × 6 pixels exceed the limit of 53 pixels$"):
            picture_from(saved(RGB), most_pixels=53)

    def test_the_limit_holds_whatever_warnings_do(self, monkeypatch):
        monkeypatch.setattr(reading.Image, "MAX_IMAGE_PIXELS", 40)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(LoadError, match=r"its 9 × 6 pixels exceed the limit of 40 pixels$"):
                picture_from(saved(RGB))

    @pytest.mark.parametrize("lab", [(54, 40, 30), (70, -40, 30), (40, 10, -35), (80, 0, 0)])
    def test_colours_by_lightness_are_turned_into_the_colours_that_they_are(self, lab):
        """Against the formula: L*a*b* → X, Y, Z in the light of prints (D50) → sRGB, away from the borders of sRGB."""
        light, a, b = lab
        y = (light + 16) / 116
        xyz = np.array([(y + a / 500) ** 3 * 0.9642, y**3, (y - b / 200) ** 3 * 0.8249])
        matrix = [[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540],
                  [0.0719453, -0.2289914, 1.4052427]]  # fmt: skip
        linear = np.array(matrix) @ xyz
        truth = 255 * np.where(linear > 0.0031308, 1.055 * np.abs(linear) ** (1 / 2.4) - 0.055, 12.92 * linear)
        file = io.BytesIO()
        pixel = bytes([round(light * 2.55), a % 256, b % 256])
        Image.frombytes("LAB", (3, 2), pixel * 6).save(file, "TIFF")
        found = picture_from(file.getvalue())
        assert found.shape == (2, 3, 3)
        assert np.abs(found - truth).max() <= 2
        assert np.abs(picture_from(file.getvalue(), "L") - truth @ [0.299, 0.587, 0.114]).max() <= 2
        assert picture_notes(file.getvalue()) == ("L*a*b* turned into RGB",)

    def test_damage_anywhere_is_an_error_of_ours_or_a_picture(self):
        sources = [saved(SMOOTH, k) for k in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")]
        refused = 0
        for number in range(300):
            data = bytearray(sources[number % len(sources)])
            if number % 2:
                del data[RNG.integers(1, len(data)) :]
            for place in RNG.integers(0, min(len(data), 200), 4):
                data[place] = RNG.integers(256)
            try:
                found = picture_from(bytes(data), most_pixels=1_000_000)
            except LoadError:
                refused += 1
            else:
                assert found.ndim == 3
                assert found.dtype == np.uint8
        assert refused > 100

    def test_networks_without_such_images(self):
        for shape, words in (((5, 8, 8), r"\[N, 5, 8, 8\]"), ((12,), r"\[N, 12\]")):
            made = nn.Conv2d(5, 2, 3) if len(shape) == 3 else nn.Linear(12, 2)
            net = wa.load(nn.Sequential(made), input=wa.InputSpec(shape=shape))
            with pytest.raises(ArgumentError, match=f"takes no images with 1 or 3 channels; .*{words}"):
                reading.image_mode(net)


@pytest.mark.slow
def test_a_huge_picture_needs_a_small_multiple_of_its_size(tmp_path):
    """40 megapixels, 120 MB of pixels: decoded, fitted and measured in a process of its own."""
    Image.new("RGB", (8000, 5000), "teal").save(tmp_path / "huge.jpg")
    code = (
        "import sys, resource, torch, weightatlas as wa\n"
        "from weightatlas.lens import photos_from\n"
        "torch.set_num_threads(1)\n"
        "net = wa.load(torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), input=wa.InputSpec(shape=(3, 224, 224)))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "photos = photos_from(net, sys.argv[1]); before = peak()\n"
        "photos.tensor(net, [0]); print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "huge.jpg"], capture_output=True, text=True, check=True)  # fmt: skip
    assert int(done.stdout) < 4 * 120e6


def test_exif_transpose_of_pillow_agrees():
    """The turns by hand are those of the standard, as another reader has them."""
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        other = ImageOps.exif_transpose(Image.open(io.BytesIO(saved(RGB, exif=exif))))
        assert np.array_equal(np.asarray(other), turn(RGB))
