"""What Pillow does for us: its images as files, pictures made smaller, and pictures made PNG."""

from __future__ import annotations

import base64
import io
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from flexllm.errors import InputError
from flexllm.media import images
from flexllm.media.load import MediaStore
from flexllm.media.options import MediaOptions
from flexllm.media.parts import as_messages
from flexllm.media.sniff import sniff
from flexllm.media.sources import decoded, encoded

Image = pytest.importorskip("PIL.Image")

ORIENTATION = 0x0112
RED, BLUE = (250, 10, 10), (10, 10, 250)


def picture(mode: str = "RGB", size: tuple[int, int] = (80, 40)) -> Any:
    """A picture whose left half is red and whose right half is blue."""
    image = Image.new("RGB", size, BLUE)
    image.paste(RED, (0, 0, size[0] // 2, size[1]))
    return image.convert(mode)


def written(image: Any, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def turned(form: str, orientation: int, size: tuple[int, int] = (80, 40)) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return written(picture(size=size), form, exif=exif)


def opened(data: bytes) -> Any:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def is_reddish(pixel: tuple[int, ...]) -> bool:
    return pixel[0] > 150 and pixel[2] < 100


def test_an_image_without_a_format_becomes_a_png_that_shows_the_same() -> None:
    data, mime = images.encode(picture())
    assert mime == sniff(data) == "image/png"
    assert opened(data).tobytes() == picture().tobytes()


@pytest.mark.parametrize(
    ("form", "mime"),
    [
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("PNG", "image/png"),
        ("GIF", "image/png"),
        ("BMP", "image/png"),
        ("TIFF", "image/png"),
    ],
)
def test_an_image_that_was_read_from_a_file_keeps_the_format_if_it_can(form: str, mime: str) -> None:
    data, found = images.encode(opened(written(picture(), form)))
    assert found == sniff(data) == mime
    assert is_reddish(opened(data).convert("RGB").getpixel((5, 5)))


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"]
)
def test_every_mode_of_pillow_can_be_encoded_and_scaled(mode: str) -> None:
    if mode == "PA":
        image = picture("P").convert("PA")
    elif mode in ("HSV", "LAB"):
        image = Image.new(mode, (80, 40))
    else:
        image = picture("L").convert(mode) if mode in ("I", "F", "I;16") else picture(mode)
    data, mime = images.encode(image)
    assert (mime, opened(data).size) == ("image/png", (80, 40))
    small = images.shrink(data, 20, "it")
    assert small is not None
    assert opened(small[0]).size == (20, 10)


def test_sixteen_bits_keep_their_light_half() -> None:
    data, _ = images.encode(Image.new("I;16", (2, 1), 0x8000))
    assert opened(data).getpixel((0, 0)) == 128
    data, _ = images.encode(Image.new("I", (2, 1), 200))
    assert opened(data).getpixel((0, 0)) == 200


def test_a_colour_profile_is_kept_as_long_as_it_fits_the_colours() -> None:
    profile = b"a profile of some colours"
    image = opened(written(picture(size=(40, 20)), "JPEG", icc_profile=profile))
    assert opened(images.encode(image)[0]).info["icc_profile"] == profile
    small = images.shrink(written(picture(), "PNG", icc_profile=profile), 20, "it")
    assert small is not None
    assert opened(small[0]).info["icc_profile"] == profile
    press = opened(written(picture("CMYK"), "JPEG", icc_profile=profile))
    assert "icc_profile" not in opened(images.encode(press)[0]).info
    assert press.info["icc_profile"] == profile


def test_a_telephones_photograph_with_a_second_picture_stays_a_jpeg() -> None:
    image = opened(written(picture(), "MPO", save_all=True, append_images=[picture()]))
    assert image.format == "MPO"
    assert images.encode(image)[1] == "image/jpeg"


def test_transparency_survives() -> None:
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    data, mime = images.encode(image)
    assert (mime, opened(data).getpixel((0, 0))) == ("image/png", (255, 0, 0, 0))
    small = images.shrink(written(image.convert("P"), "GIF", transparency=0), 2, "it")
    assert small is not None
    assert (small[1], opened(small[0]).mode) == ("image/png", "RGBA")


def test_an_image_of_pillow_in_a_message_becomes_a_data_uri() -> None:
    for part in (picture(), {"type": "image", "image": picture()}, {"type": "image_url", "image_url": picture()}):
        done = as_messages([{"role": "user", "content": [part]}])
        data, mime = decoded(done[0]["content"][0]["image_url"]["url"])
        assert (mime, opened(data).size) == ("image/png", (80, 40))


def test_an_image_that_cannot_be_encoded_is_refused() -> None:
    broken = Image.open(io.BytesIO(written(picture(), "PNG")[:60]))
    for each in (broken, Image.new("RGB", (0, 5))):
        with pytest.raises(InputError, match="cannot be read or written by Pillow"):
            images.encode(each)


@pytest.mark.parametrize(
    ("form", "mime"),
    [("JPEG", "image/jpeg"), ("PNG", "image/png"), ("WEBP", "image/webp"), ("GIF", "image/png"), ("TIFF", "image/png")],
)
def test_a_large_picture_is_scaled_and_keeps_format_and_ratio(form: str, mime: str) -> None:
    small = images.shrink(written(picture(size=(400, 100)), form), 100, "it")
    assert small is not None
    assert (small[1], sniff(small[0]), opened(small[0]).size) == (mime, mime, (100, 25))
    assert is_reddish(opened(small[0]).convert("RGB").getpixel((10, 10)))
    assert not is_reddish(opened(small[0]).convert("RGB").getpixel((90, 10)))


@pytest.mark.parametrize("size", [(80, 40), (40, 80), (1, 80), (80, 80)])
def test_a_picture_that_is_small_enough_keeps_its_bytes(size: tuple[int, int]) -> None:
    assert images.shrink(turned("JPEG", 6, size), 80, "it") is None


def test_a_very_flat_picture_keeps_a_pixel_of_height() -> None:
    small = images.shrink(written(picture(size=(1000, 1)), "PNG"), 10, "it")
    assert small is not None
    assert opened(small[0]).size == (10, 1)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_orientation_is_applied_when_a_picture_is_scaled(form: str) -> None:
    small = images.shrink(turned(form, 6, (400, 200)), 100, "it")  # 6: to be turned by a quarter, clockwise
    assert small is not None
    image = opened(small[0])
    assert image.size == (50, 100)
    assert is_reddish(image.convert("RGB").getpixel((25, 10)))  # the left is on top now
    assert not is_reddish(image.convert("RGB").getpixel((25, 90)))
    assert image.getexif().get(ORIENTATION, 1) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_photograph_is_applied_when_it_is_encoded(orientation: int) -> None:
    image = opened(turned("JPEG", orientation))
    data, mime = images.encode(image)
    done = opened(data)
    assert mime == "image/jpeg"
    assert done.size == ((80, 40) if orientation < 5 else (40, 80))
    assert done.getexif().get(ORIENTATION, 1) == 1
    corner = {1: (5, 5), 2: (75, 5), 3: (75, 5), 4: (5, 5), 5: (5, 5), 6: (5, 5), 7: (5, 75), 8: (5, 75)}[orientation]
    assert is_reddish(done.getpixel(corner))


def test_png_is_made_of_what_pillow_can_read() -> None:
    for form in ("BMP", "TIFF", "GIF", "JPEG"):
        data = images.as_png(written(picture(), form), "it")
        assert sniff(data) == "image/png"
        assert is_reddish(opened(data).convert("RGB").getpixel((5, 5)))


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), RED), Image.new("RGB", (8, 8), BLUE)]
    data = written(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert is_reddish(opened(images.as_png(data, "it")).convert("RGB").getpixel((1, 1)))


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0 cut",
        b"<svg/>",
        b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
        b"",
    ],
)
def test_what_pillow_cannot_read_is_refused_by_name(data: bytes) -> None:
    for work in (lambda: images.as_png(data, "'a.png'"), lambda: images.shrink(data, 10, "'a.png'")):
        with pytest.raises(InputError, match=r"'a\.png' cannot be read or written by Pillow") as caught:
            work()
        assert "0x" not in str(caught.value)


def test_a_picture_that_is_cut_off_is_refused() -> None:
    data = written(picture(size=(400, 400)), "JPEG")
    with pytest.raises(InputError, match="cannot be read or written by Pillow"):
        images.shrink(data[: len(data) // 2], 100, "it")


def test_a_picture_of_far_too_many_pixels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(InputError, match="decompression bomb"):
        images.shrink(written(picture(), "PNG"), 10, "it")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match="decompression bomb"):  # what is a warning to others
            images.shrink(written(picture(), "PNG"), 10, "it")


def test_without_pillow_a_conversion_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(picture(), "BMP")
    monkeypatch.setitem(sys.modules, "PIL", None)
    media = MediaStore(MediaOptions())
    with pytest.raises(InputError) as caught:
        media.data_uri(encoded(data, "image/bmp"), "image", image_types=frozenset({"image/png"}))
    assert str(caught.value) == (
        "the data URI, which is image/bmp and this provider does not take, cannot be converted without Pillow; "
        'install it with pip install "flexllm[image]"'
    )


def test_the_store_scales_files_downloads_and_data_uris_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(picture(size=(400, 200)), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(data)
    media = MediaStore(MediaOptions(max_image_side=100), download=lambda url, **limits: (data, ""))
    calls = []
    shrink = images.shrink
    monkeypatch.setattr(images, "shrink", lambda *args: calls.append(1) or shrink(*args))
    sources = [str(path), "https://example.org/photo.png", encoded(data, "image/png"), base64.b64encode(data).decode()]
    made = [media.data_uri(source, "image") for source in sources]
    again = [media.data_uri(source, "image") for source in sources]
    assert len(set(made)) == 1
    assert made == again
    assert opened(decoded(made[0])[0]).size == (100, 50)
    assert len(calls) == 3  # base64 is the same as its data URI


def test_the_store_leaves_small_pictures_drawings_and_other_kinds_alone(tmp_path: Path) -> None:
    drawing = tmp_path / "a.svg"
    drawing.write_bytes(b"<svg width='4000'/>")
    media = MediaStore(MediaOptions(max_image_side=100))
    small, large = written(picture(), "PNG"), written(picture(size=(400, 200)), "PNG")
    for data, mime, kind in [
        (small, "image/png", "image"),
        (b"<svg width='4000'/>", "image/svg+xml", "image"),
        (large, "image/png", "file"),
    ]:
        assert media.data_uri(encoded(data, mime), kind) == encoded(data, mime)
    assert media.data_uri(str(drawing), "image") == encoded(b"<svg width='4000'/>", "image/svg+xml")


def test_the_store_makes_png_once_of_what_a_provider_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    as_png = images.as_png
    monkeypatch.setattr(images, "as_png", lambda *args: calls.append(1) or as_png(*args))
    media = MediaStore(MediaOptions())
    bitmap, photo = encoded(written(picture(), "BMP"), "image/bmp"), encoded(written(picture(), "JPEG"), "image/jpeg")
    types = frozenset({"image/png", "image/jpeg"})
    made = media.data_uri(bitmap, "image", image_types=types)
    assert decoded(made)[1] == "image/png"
    assert media.data_uri(bitmap, "image", image_types=types) is made
    assert media.data_uri(bitmap, "image") is bitmap
    assert media.data_uri(photo, "image", image_types=types) is photo
    assert media.data_uri(bitmap, "file", image_types=types) is bitmap
    assert calls == [1]
    with pytest.raises(
        InputError, match=re.escape("which is image/svg+xml and this provider does not take, cannot be")
    ):
        media.data_uri(encoded(b"<svg/>", "image/svg+xml"), "image", image_types=types)


def test_many_threads_may_scale_at_once() -> None:
    from concurrent.futures import ThreadPoolExecutor

    data = [written(picture(size=(200 + number, 100)), "JPEG") for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda one: images.shrink(one, 50, "it"), data * 4))
    assert {opened(one[0]).size[0] for one in done if one} == {50}
