"""Requests on their way to a provider: what it takes stays as it is, everything else stands inline when it arrives."""

from __future__ import annotations

import base64
import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from fake_endpoint import PlainProvider, Reply, Setup, events, ok
from hypothesis import given
from hypothesis import strategies as st

from flexllm.backends.turn import Turn
from flexllm.cancel import CancelToken
from flexllm.chat import ChatRequest
from flexllm.errors import ConnectionFailed, InputError
from flexllm.media.inline import has_parts, inline_messages
from flexllm.media.load import MediaStore
from flexllm.media.options import MediaOptions, MediaWants
from flexllm.media.parts import as_messages
from flexllm.media.sources import encoded

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00"
MP3 = b"\xff\xfb\x90\x64" + bytes(40)
MP4 = b"\x00\x00\x00\x14ftypisom\x00\x00\x02\x00mp41"
PDF = b"%PDF-1.7\n"
REMOTE = {
    "https://example.org/a.png": PNG,
    "https://example.org/a.wav?x=1": WAV,
    "https://example.org/a.mp4": MP4,
    "https://example.org/docs/my%20report.pdf?x=1": PDF,
}
ALL = frozenset({"image", "audio", "video", "file"})
URIS = {
    "png": encoded(PNG, "image/png"),
    "wav": encoded(WAV, "audio/wav"),
    "mp3": encoded(MP3, "audio/mpeg"),
    "mp4": encoded(MP4, "video/mp4"),
    "pdf": encoded(PDF, "application/pdf"),
}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, data in (("a.png", PNG), ("a.wav", WAV), ("a.mp3", MP3), ("a.mp4", MP4), ("a.pdf", PDF), ("AAAA", WAV)):
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def store(**options: Any) -> MediaStore:
    return MediaStore(MediaOptions(**options), download=lambda url, **limits: (REMOTE[url], ""))


def inlined(part: Any, store_options: Any = None, **wants: Any) -> Any:
    """Send one part through; the caller's must not change."""
    messages = [{"role": "user", "content": [part]}]
    before = copy.deepcopy(messages)
    done = inline_messages(messages, store(**(store_options or {})), MediaWants(**wants))
    assert messages == before
    new = done[0]["content"][0]
    assert (new is part) == (done is messages)
    return new


def audio(data: str, **more: str) -> dict[str, Any]:
    return {"type": "input_audio", "input_audio": {"data": data, **more}}


def file(data: str, **more: str) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, **more}}


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


STAYING = [
    {"type": "text", "text": "a.png"},
    image("https://example.org/a.png", detail="low"),
    image(URIS["png"]),
    image("gs://bucket/a.png"),
    image(""),
    {"type": "image_url", "image_url": {}},
    {"type": "image_url", "image_url": "a.png"},
    {"type": "image_url"},
    audio("https://example.org/a.wav"),
    audio(b64(WAV), format="mp3"),  # whoever gives base64 says what it is
    audio("AAAB", format="wav"),  # short, of no known kind, and there is no such file
    {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}},
    {"type": "video", "video": ["https://example.org/1.jpg", URIS["png"]], "fps": 2},
    {"type": "video", "video": "a.mp4"},
    file(URIS["pdf"], filename="a.pdf"),
    file(URIS["pdf"]),
    file("https://example.org/a.pdf"),
    file("fileid://file-1"),
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "image", "source": {"type": "url", "url": "a.png"}},
    {"type": "document", "source": {"type": "text", "data": "a.png"}},
    {"type": "new", "new": {"url": "a.png"}},
    {"type": ["image_url"], "image_url": {"url": "a.png"}},
    "a.png",
]


@pytest.mark.parametrize("part", STAYING, ids=range(len(STAYING)))
def test_what_the_provider_takes_stays_the_same_object(part: Any, folder: Path) -> None:
    assert inlined(part) is part


@pytest.mark.parametrize(
    ("part", "done"),
    [
        (image("a.png", detail="low"), image(URIS["png"], detail="low")),
        ({**image("a.png"), "uuid": "1"}, {**image(URIS["png"]), "uuid": "1"}),
        (image(URIS["png"].replace("png", "jpeg")), image(URIS["png"])),
        (image(b64(PNG)), image(URIS["png"])),
        (
            {"type": "video_url", "video_url": {"url": "a.mp4"}},
            {"type": "video_url", "video_url": {"url": URIS["mp4"]}},
        ),
        (
            {"type": "audio_url", "audio_url": {"url": "a.mp3"}},
            {"type": "audio_url", "audio_url": {"url": URIS["mp3"]}},
        ),
        (
            {"type": "video", "video": ["a.png", "https://example.org/2.jpg", 5], "fps": 2},
            {"type": "video", "video": [URIS["png"], "https://example.org/2.jpg", 5], "fps": 2},
        ),
        (audio("a.wav"), audio(b64(WAV), format="wav")),
        (audio("a.mp3", format="wav"), audio(b64(MP3), format="mp3")),
        (audio(URIS["mp3"], format="wav"), audio(b64(MP3), format="mp3")),
        (audio(encoded(b"\x00\x01", "audio/x-odd")), audio(b64(b"\x00\x01"), format="x-odd")),
        (audio(encoded(MP4, "audio/mp4")), audio(b64(MP4), format="m4a")),
        (audio(b64(WAV)), audio(b64(WAV), format="wav")),
        (audio("AAAA", format="wav"), audio(b64(WAV), format="wav")),  # a file of this name is there
        (file("a.pdf"), file(URIS["pdf"], filename="a.pdf")),
        (file("a.pdf", filename="mine.pdf"), file(URIS["pdf"], filename="mine.pdf")),
        (file("a.png"), file(URIS["png"], filename="a.png")),
        (file(b64(PDF)), file(URIS["pdf"])),
        (file("AAAB"), file(encoded(b"\x00\x00\x01", "application/octet-stream"))),
        (file("data:,words"), file(encoded(b"words", "text/plain"))),
    ],
)
def test_local_media_stand_inline(part: Any, done: Any, folder: Path) -> None:
    assert inlined(part) == done


def test_file_urls_stand_inline_with_their_name(folder: Path) -> None:
    (folder / "my report.pdf").write_bytes(PDF)
    assert inlined(file(f"file://{folder}/my%20report.pdf")) == file(URIS["pdf"], filename="my report.pdf")
    assert inlined(image(f"file://{folder}/a.png")) == image(URIS["png"])


@pytest.mark.parametrize(
    ("part", "done"),
    [
        (image("https://example.org/a.png"), image(URIS["png"])),
        (
            {"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}},
            {"type": "video_url", "video_url": {"url": URIS["mp4"]}},
        ),
        (
            {"type": "video", "video": ["https://example.org/a.png"]},
            {"type": "video", "video": [URIS["png"]]},
        ),
        (audio("https://example.org/a.wav?x=1"), audio(b64(WAV), format="wav")),
        (
            file("https://example.org/docs/my%20report.pdf?x=1"),
            file(URIS["pdf"], filename="my report.pdf"),
        ),
    ],
)
def test_remote_media_stand_inline_where_the_provider_cannot_fetch_them(part: Any, done: Any) -> None:
    assert inlined(part, inline_remote=ALL) == done
    assert inlined(part) is part
    assert inlined(part, inline_remote=ALL, takes_urls=("https://other.org/", "https://example.org/")) is part


def test_each_kind_is_fetched_by_itself() -> None:
    wants = {"inline_remote": frozenset({"file"})}
    assert inlined(image("https://example.org/a.png"), **wants)["image_url"]["url"].startswith("https:")
    assert inlined(file("https://example.org/docs/my%20report.pdf?x=1"), **wants)["file"]["file_data"] == URIS["pdf"]


@pytest.mark.parametrize(
    ("part", "done"),
    [
        (audio("a.wav"), audio(URIS["wav"], format="wav")),
        (audio(URIS["wav"], format="wav"), audio(URIS["wav"], format="wav")),
        (audio(b64(MP3), format="mp3"), audio(URIS["mp3"], format="mp3")),
        (audio(b64(MP3), format="odd"), audio(f"data:audio/odd;base64,{b64(MP3)}", format="odd")),
        (audio("https://example.org/a.wav"), audio("https://example.org/a.wav")),
    ],
)
def test_sound_is_a_data_uri_where_the_provider_wants_one(part: Any, done: Any, folder: Path) -> None:
    assert inlined(part, audio_as_uri=True) == done


def test_images_of_other_types_become_png(folder: Path) -> None:
    pytest.importorskip("PIL")
    from PIL import Image

    Image.new("RGB", (2, 2)).save(folder / "a.bmp")
    types = frozenset({"image/png"})
    assert inlined(image("a.bmp"))["image_url"]["url"].startswith("data:image/bmp;")
    assert inlined(image("a.bmp"), image_types=types)["image_url"]["url"].startswith("data:image/png;")
    assert inlined({"type": "video", "video": ["a.bmp"]}, image_types=types)["video"][0].startswith("data:image/png;")
    assert inlined(image(URIS["png"]), image_types=types)["image_url"]["url"] is URIS["png"]


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (image("a.wav"), "message 1, part 1: 'a.wav' is not an image: its bytes are audio/wav"),
        (image("missing.png"), "message 1, part 1: the file 'missing.png' (in the working directory "),
        (audio("a.png"), "'a.png' is not audio: its bytes are image/png"),
        (audio("AAAB"), "the audio is of no known format; say which as 'format' beside its 'data'"),
        (audio("missing.wav", format="wav"), "the file 'missing.wav' "),
        (audio("=AAA", format="wav"), "the file '=AAA' "),
        (file("missing.pdf"), "the file 'missing.pdf' "),
        ({"type": "video_url", "video_url": {"url": "a.png"}}, "'a.png' is not a video: its bytes are image/png"),
        ({"type": "video", "video": ["a.mp4"]}, "'a.mp4' is not an image: its bytes are video/mp4"),
    ],
)
def test_an_unusable_medium_is_refused_by_its_place(part: Any, reason: str, folder: Path) -> None:
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "?"}, part]}]
    with pytest.raises(InputError, match=re.escape(reason)) as caught:
        inline_messages(messages, store(), MediaWants())
    assert str(caught.value).startswith("message 1, part 1: ")


def test_base64_is_bounded_as_files_are() -> None:
    for part in (audio(b64(bytes(300)), format="wav"), audio(encoded(bytes(300), "audio/wav")), file(b64(bytes(300)))):
        with pytest.raises(InputError, match="has 300 bytes, more than max_bytes=200"):
            inlined(part, {"max_bytes": 200})


def test_without_local_files_base64_is_still_base64(folder: Path) -> None:
    assert inlined(audio("AAAA", format="wav"), {"local_files": False})["input_audio"]["data"] == "AAAA"
    with pytest.raises(InputError, match="local_files=False"):
        inlined(audio("a.wav"), {"local_files": False})


# On the way of a request, around all this.


def request(content: Any) -> ChatRequest:
    return ChatRequest([{"role": "system", "content": "brief"}, {"role": "user", "content": content}], "m", {"n": 1})


class Reading:
    """Attempts at an endpoint that reads media, and what became of a request."""

    def __init__(self, *answers: Any, media: MediaStore | None = None, wants: Any = None, **options: Any) -> None:
        self.provider = PlainProvider(**(wants or {}))
        self.setup = Setup(*answers, media=media or store(), provider=self.provider, **options)
        self.ask = self.setup.attempts.complete
        self.stream = self.setup.attempts.stream
        self.asked = self.provider.asked


def noted(*failures: Exception) -> tuple[MediaStore, list[str]]:
    """A store whose downloads fail first, and the URLs that it was asked for."""
    urls: list[str] = []
    to_come = list(failures)

    def note(url: str, **limits: Any) -> tuple[bytes, str]:
        urls.append(url)
        if to_come:
            raise to_come.pop(0)
        return PNG, ""

    return MediaStore(MediaOptions(), download=note), urls


def test_a_plain_conversation_goes_down_as_the_same_object() -> None:
    reading = Reading(ok(), Reply(events("END")), ok(), wants={"inline_remote": ALL})
    plain, parts = request("a.png"), request([{"type": "text", "text": "a.png"}])
    reading.ask(plain)
    list(reading.stream(plain))
    reading.ask(parts)
    assert all(seen is given for seen, given in zip(reading.asked, (plain, plain, parts), strict=True))
    assert not has_parts(plain.messages)
    assert has_parts(parts.messages)


def test_a_message_without_content_is_no_obstacle() -> None:
    reading = Reading(ok())
    reading.ask(
        ChatRequest([{"role": "assistant", "tool_calls": []}, {"role": "user", "content": [image(b64(PNG))]}], "m")
    )
    assert reading.asked[0].messages[1] == {"role": "user", "content": [image(URIS["png"])]}


def test_media_stand_inline_below_and_the_rest_of_the_request_is_kept(folder: Path) -> None:
    reading = Reading(ok("fine"), Reply(events("fine", "END")))
    asked = request([image("a.png")])
    assert reading.ask(asked).content == "fine"
    assert [piece.content for piece in reading.stream(asked)] == ["fine", "fine"]
    for seen in reading.asked:
        assert seen.messages[1]["content"] == [image(URIS["png"])]
        assert seen.messages[0] is asked.messages[0]
        assert (seen.model, seen.params) == ("m", {"n": 1})
    assert asked.messages[1]["content"] == [image("a.png")]


def test_an_endpoint_without_a_store_hands_media_on_as_they_are() -> None:
    setup = Setup(ok())
    asked = request([image("a.png")])
    setup.attempts.complete(asked)
    assert setup.endpoint._provider.asked[0] is asked  # type: ignore[attr-defined]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_medium_that_cannot_be_read_asks_nobody(folder: Path, streamed: bool) -> None:
    reading = Reading(ok())
    with pytest.raises(InputError, match=r"missing\.png"):
        if streamed:
            next(reading.stream(request([image("missing.png")])))
        else:
            reading.ask(request([image("missing.png")]))
    assert (reading.asked, reading.setup.gate.taken) == ([], 0)


def test_media_are_read_once_for_all_attempts_of_a_row() -> None:
    media, urls = noted()
    reading = Reading(ok("x", 500), ok("x", 500), ok(), media=media, wants={"inline_remote": ALL})
    assert reading.ask(request([image("https://example.org/a.png")])).attempts == 3
    assert urls == ["https://example.org/a.png"]
    assert reading.asked[0].messages is reading.asked[1].messages is reading.asked[2].messages


def test_a_failed_download_is_neither_tried_again_nor_blamed_on_the_endpoint() -> None:
    media, urls = noted(ConnectionFailed("it answered 503", endpoint="http://pictures"))
    reading = Reading(ok(), media=media, wants={"inline_remote": ALL})
    with pytest.raises(ConnectionFailed, match="it answered 503") as caught:
        reading.ask(request([image("https://example.org/a.png")]))
    assert (caught.value.attempts, caught.value.endpoint, len(urls)) == (0, "http://pictures", 1)
    assert (reading.asked, reading.setup.gate.taken, reading.setup.sleeps) == ([], 0, [])
    health = reading.setup.endpoint.health()
    assert (health.sent, health.failed, health.last_error) == (0, 0, None)


def test_the_token_reaches_the_download() -> None:
    seen = []

    def note(url: str, **limits: Any) -> tuple[bytes, str]:
        seen.append(limits["cancel"])
        return PNG, ""

    media = MediaStore(MediaOptions(), download=note)
    reading = Reading(ok(), Reply(events("END")), media=media, wants={"inline_remote": ALL})
    cancel = CancelToken()
    reading.ask(request([image("https://example.org/a.png")]), cancel)
    list(reading.stream(request([image("https://example.org/b.png")]), cancel))
    assert seen == [cancel, cancel]


def test_each_endpoint_of_a_row_has_media_as_its_provider_wants_them() -> None:
    media, urls = noted()
    remote, inline = PlainProvider(), PlainProvider(inline_remote=ALL)
    one, other = (Setup(ok(), media=media, provider=provider) for provider in (remote, inline))
    turn, asked = Turn(None), request([image("https://example.org/a.png")])
    one.endpoint.complete(asked, turn)
    other.endpoint.complete(asked, turn)
    assert remote.asked[0] is asked
    assert inline.asked[0].messages[1]["content"] == [image(URIS["png"])]
    assert len(urls) == 1


def test_both_steps_together(folder: Path) -> None:
    reading = Reading(ok(), wants={"inline_remote": ALL})
    given = [{"role": "user", "content": ["look", Path("a.png"), PNG, {"type": "audio", "audio": WAV}, Path("a.pdf")]}]
    messages = json.loads(json.dumps(as_messages(given)))  # as a row of a batch would come
    reading.ask(ChatRequest(messages, "m"))
    assert reading.asked[0].messages[0]["content"] == [
        {"type": "text", "text": "look"},
        image(URIS["png"]),
        image(URIS["png"]),
        audio(b64(WAV), format="wav"),
        file(URIS["pdf"], filename="a.pdf"),
    ]


SOURCES = (
    st.text(max_size=20) | st.sampled_from([*URIS.values(), b64(WAV), "gs://x", "https://[", "file://"]) | st.none()
)


@given(
    st.sampled_from(["image_url", "input_audio", "audio_url", "video_url", "file", "video"]),
    st.sampled_from(["url", "data", "file_data"]),
    SOURCES | st.integers(),
    st.sampled_from([{}, {"format": "wav"}, {"format": 5}, {"filename": None}]),
    st.booleans(),
)
def test_any_source_is_put_inline_left_or_refused(kind: str, key: str, source: Any, more: Any, as_uri: bool) -> None:
    part = {"type": kind, kind: {key: source, **more}}
    try:
        done = inlined(part, {"local_files": False}, audio_as_uri=as_uri)
    except InputError:
        return
    json.dumps(done)
    assert done["type"] == kind
