"""Options of media are checked when they are made, and each message names field, value and what is allowed."""

from __future__ import annotations

import dataclasses
import pickle
import re
import sys
from typing import Any

import pytest

from flexllm.errors import ConfigError
from flexllm.media.options import MediaOptions, MediaWants


def test_the_defaults_are_safe() -> None:
    options = MediaOptions()
    assert (options.max_bytes, options.download_timeout, options.cache_bytes) == (20_000_000, 30.0, 256_000_000)
    assert (options.allow_private, options.local_files, options.max_image_side) == (False, True, None)
    assert MediaWants() == MediaWants(inline_remote=frozenset(), image_types=None, audio_as_uri=False, takes_urls=())


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("max_bytes", 0, "a whole number of at least 1"),
        ("max_bytes", -1, "a whole number of at least 1"),
        ("max_bytes", 1e6, "a whole number of at least 1"),
        ("max_bytes", True, "a whole number of at least 1"),
        ("max_bytes", None, "a whole number of at least 1"),
        ("max_bytes", "20MB", "a whole number of at least 1"),
        ("cache_bytes", -1, "a whole number of at least 0"),
        ("download_timeout", 0, "a number of seconds above 0"),
        ("download_timeout", float("nan"), "a number of seconds above 0"),
        ("download_timeout", float("inf"), "a number of seconds above 0"),
        ("download_timeout", None, "a number of seconds above 0"),
        ("download_timeout", True, "a number of seconds above 0"),
        ("allow_private", 1, "True or False"),
        ("local_files", "no", "True or False"),
        ("max_image_side", 0, "a whole number of at least 1"),
        ("max_image_side", 512.0, "a whole number of at least 1"),
    ],
)
def test_a_wrong_option_is_refused(field: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"{field}={value!r} must be {allowed}")):
        MediaOptions(**{field: value})


def test_scaling_asks_for_pillow_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    MediaOptions()
    with pytest.raises(
        ConfigError, match=re.escape('max_image_side=512 needs Pillow; install it with pip install "flexllm[image]"')
    ):
        MediaOptions(max_image_side=512)


def test_options_are_values() -> None:
    options, wants = MediaOptions(max_bytes=5), MediaWants(inline_remote=frozenset({"audio"}), takes_urls=("gs:",))
    assert pickle.loads(pickle.dumps((options, wants))) == (options, wants)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.max_bytes = 6  # type: ignore[misc]
    with pytest.raises(TypeError):
        MediaOptions(5)  # type: ignore[misc]


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"inline_remote=\['sound'\] is unknown; known are audio, file, image, video"):
        MediaWants(inline_remote=frozenset({"image", "sound"}))
