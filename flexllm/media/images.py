"""The only door to Pillow, which is optional: encoding its images, scaling pictures down, and turning them into PNG."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ConfigError, FlexLLMError, InputError
from ..language import _, mark
from ..words import Words

if TYPE_CHECKING:
    from PIL import Image

INSTALL = 'pip install "flexllm[image]"'

JPEG_QUALITY = 90
"""Of 95 that make sense: what is lost is below what models see, at half the size."""

KEPT_FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}
"""Formats that a picture keeps when it is encoded anew; all others become PNG, of their first frame."""

_PLAIN_MODES = frozenset({"L", "LA", "RGB", "RGBA"})
"""Modes of Pillow that can be scaled well, and that PNG and WebP can hold."""

T = TypeVar("T")


def require_pillow(option: str) -> None:
    """Raise ConfigError if Pillow is not installed; `option` says what needs it."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise ConfigError(
            _("{option} needs Pillow; install it with {install}", option=option, install=INSTALL)
        ) from None


def is_image(thing: Any) -> bool:
    """Return whether something is an image of Pillow, or behaves as one; Pillow is not loaded for the question."""
    return all(hasattr(thing, name) for name in ("save", "mode", "size"))


def encode(image: Any) -> tuple[bytes, str]:
    """Return an image's file and MIME type: JPEG and WebP if it was read from such a file, otherwise PNG.

    The EXIF orientation is applied, and EXIF left out.

    Raises:
        InputError: Pillow cannot encode it.
    """

    def work() -> tuple[bytes, str]:
        from PIL import Image

        if not isinstance(image, Image.Image):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            return buffer.getvalue(), "image/png"
        return _written(_upright(image), image.format)

    return _guarded(work, Words(mark("the image of type {kind}"), kind=type(image).__name__))


def shrink(data: bytes, side: int, shown: Words | str) -> tuple[bytes, str] | None:
    """Return a picture's file and MIME type with no side longer than `side` pixels, None if it has none already.

    The aspect ratio and, for JPEG, PNG and WebP, the format are kept; the EXIF orientation is applied.

    Raises:
        InputError: The picture cannot be read; `shown` names it.
    """

    def work() -> tuple[bytes, str] | None:
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            if max(image.size) <= side:
                return None
            image.draft("RGB", (side, side))  # lets a JPEG be decoded at a fraction of its size, never below `side`
            small = _upright(image)
            small.thumbnail((side, side), Image.Resampling.LANCZOS)
            return _written(small, image.format)

    return _guarded(work, shown)


def as_png(data: bytes, shown: Words | str, mime: str = "") -> bytes:
    """Return a picture as a PNG file: its first frame, with the EXIF orientation applied.

    Args:
        mime: Its type, which is why it is converted, for errors.

    Raises:
        InputError: The picture cannot be read, or Pillow is not installed; `shown` names it.
    """

    def work() -> bytes:
        from PIL import Image

        with Image.open(io.BytesIO(data)) as image:
            return _written(_upright(image), "PNG")[0]

    return _guarded(work, shown, mime)


def _guarded(work: Callable[[], T], shown: Words | str, mime: str = "") -> T:
    try:
        return work()
    except FlexLLMError:
        raise
    except ImportError as error:
        text = _OF_A_TYPE_WITHOUT_PILLOW if mime else _WITHOUT_PILLOW
        raise InputError(_(text, shown=shown, mime=mime, install=INSTALL)) from error
    except Exception as error:  # Pillow's readers raise whatever broken bytes lead them to
        said = " ".join(str(error).split()) or type(error).__name__
        reason = _("it knows no such format") if said.startswith("cannot identify image file") else said[:200]
        text = _OF_A_TYPE_NOT_FOR_PILLOW if mime else _NOT_FOR_PILLOW
        raise InputError(_(text, shown=shown, mime=mime, reason=reason)) from error


_WITHOUT_PILLOW = mark("{shown} cannot be converted without Pillow; install it with {install}")
_OF_A_TYPE_WITHOUT_PILLOW = mark(
    "{shown}, which is {mime} and this provider does not take, cannot be converted without Pillow; install it with {install}"
)
_NOT_FOR_PILLOW = mark("{shown} cannot be read or written by Pillow: {reason}")
_OF_A_TYPE_NOT_FOR_PILLOW = mark(
    "{shown}, which is {mime} and this provider does not take, cannot be read or written by Pillow: {reason}"
)


def _upright(image: Image.Image) -> Image.Image:
    """Return the image turned as its EXIF orientation says, in a mode that can be scaled and written."""
    from PIL import ImageOps

    image.load()
    # A TIFF is turned as it is loaded, and Pillow 10.0 forgets to say so. The rest is turned before the mode changes.
    turned = image if image.format == "TIFF" else ImageOps.exif_transpose(image)
    plain = _plain(turned)
    if plain.mode != image.mode:
        plain.info.pop("icc_profile", None)  # it describes the colours of the other mode
    return plain


def _written(image: Image.Image, form: str | None) -> tuple[bytes, str]:
    form = {"MPO": "JPEG"}.get(form or "", form)  # a telephone's JPEG, with a second picture behind the first
    if form not in KEPT_FORMATS or (form == "JPEG" and image.mode in ("LA", "RGBA")):
        form = "PNG"  # JPEG holds no transparency
    quality = {} if form == "PNG" else {"quality": JPEG_QUALITY}
    buffer = io.BytesIO()
    image.save(buffer, form, icc_profile=image.info.get("icc_profile"), **quality)
    return buffer.getvalue(), KEPT_FORMATS[form]


def _plain(image: Image.Image) -> Image.Image:
    if image.mode in _PLAIN_MODES:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I"):  # converting would cut off what is lighter than 255
        whole = image.convert("I")
        is_deep = image.mode != "I" or whole.getextrema()[1] > 255  # type: ignore[operator]  # one band: two numbers
        return (whole.point(lambda value: value * (1 / 256)) if is_deep else whole).convert("L")
    if image.mode == "F":
        return image.convert("L")
    has_transparency = "transparency" in image.info or image.mode in ("PA", "RGBa", "La")
    return image.convert("RGBA" if has_transparency else "RGB")
