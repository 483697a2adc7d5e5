"""Vertex AI's base URLs, and Google credentials: what is accepted, when a token is renewed, and by how many threads."""

from __future__ import annotations

import json
import logging
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import pytest
from fakes import FakeClock, eventually
from hypothesis import given
from hypothesis import strategies as st

from flexllm.errors import AuthenticationFailed, ConfigError, ConnectionFailed, TlsFailed
from flexllm.retry import is_retryable
from flexllm.vertex import (
    REFRESH_MARGIN,
    RENEW_PAUSE,
    SCOPE,
    TOKEN_TIMEOUT,
    GoogleCredentials,
    google_credentials,
    vertex_base_url,
)
from flexllm.wire import Headers, Target

START = 1_800_000_000.0
"""Unix time at which the fake clock starts."""
LIFE = 3600.0
LONG = 60.0
"""Seconds that a broken room makes a test wait before it fails."""


@pytest.fixture(autouse=True)
def no_google_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("GOOGLE_", "CLOUDSDK_", "GCLOUD_", "GCE_")):
            monkeypatch.delenv(name)


# --- base URLs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("project", "location", "version", "url"),
    [
        (
            "my-project",
            "us-central1",
            "v1",
            "https://us-central1-aiplatform.googleapis.com/v1/projects/my-project/locations/us-central1",
        ),
        ("my-project", "global", "v1", "https://aiplatform.googleapis.com/v1/projects/my-project/locations/global"),
        ("1234567890", "eu", "v1", "https://aiplatform.eu.rep.googleapis.com/v1/projects/1234567890/locations/eu"),
        ("p1", "us", "v1beta1", "https://aiplatform.us.rep.googleapis.com/v1beta1/projects/p1/locations/us"),
        (
            "example.com:p1",
            "me-west1",
            "v1",
            "https://me-west1-aiplatform.googleapis.com/v1/projects/example.com:p1/locations/me-west1",
        ),
        (None, "global", "v1", "https://aiplatform.googleapis.com/v1"),
        (None, "us-central1", "v1beta1", "https://aiplatform.googleapis.com/v1beta1"),
        (None, "", "v1", "https://aiplatform.googleapis.com/v1"),
    ],
)
def test_each_kind_of_place_has_its_url(project: str | None, location: str, version: str, url: str) -> None:
    found = vertex_base_url(project, location, version)
    assert found == url + "/publishers/google"
    assert Target(base_url=found).base_url == found


def test_the_version_is_the_stable_one_unless_it_is_given() -> None:
    assert "/v1/" in vertex_base_url("p", "global")


WRONG_PARTS = ["", " ", "a b", "a/b", "a\n", "..", "a?b", "a#b", "a@b", "ü", "a%2e", "-a", "a-", None, 5, b"a", ["a"]]


@pytest.mark.parametrize("value", [*WRONG_PARTS, "a.b", "US", "us_central1", "a" * 51, "x:y"])
def test_a_location_that_cannot_stand_in_a_url_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigError, match="location="):
        vertex_base_url("my-project", value)


@pytest.mark.parametrize("value", [value for value in WRONG_PARTS if value is not None])
def test_a_project_that_cannot_stand_in_a_url_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigError, match="project_id="):
        vertex_base_url(value, "global")


@pytest.mark.parametrize("value", ["", "1", "v", "v1/", "V1", "v1.", None, 1])
@pytest.mark.parametrize("project", ["p", None])
def test_a_version_that_cannot_stand_in_a_url_is_refused_by_name(value: Any, project: str | None) -> None:
    with pytest.raises(ConfigError, match="version="):
        vertex_base_url(project, "global", value)


@given(st.text(), st.text())
def test_whatever_is_given_the_host_stays_googles(project: str, location: str) -> None:
    try:
        parts = urlsplit(vertex_base_url(project, location))
    except ConfigError:
        return
    assert (parts.hostname or "").endswith("aiplatform.googleapis.com") or location in ("us", "eu")
    assert parts.path == f"/v1/projects/{project}/locations/{location}/publishers/google"


# --- fakes ------------------------------------------------------------------------------------------------------------


class FakeGoogle:
    """Credentials as google-auth's: tokens that live an hour, numbered. `outcome` is called by each refresh."""

    quota_project_id: str | None = None

    def __init__(self, clock: FakeClock, *, life: float | None = LIFE) -> None:
        self._clock = clock
        self.life = life
        self.token: Any = None
        self.expiry: datetime | None = None
        self.refreshes = 0
        self.request: Any = None
        self.outcome: Callable[[], object] = lambda: None

    def refresh(self, request: Any) -> None:
        self.refreshes += 1
        self.request = request
        number = self.refreshes
        self.outcome()
        self.hold(f"ya29.token-{number}", self.life)

    def hold(self, token: Any, life: float | None) -> None:
        self.token = token
        self.expiry = None if life is None else naive_utc(self._clock.now + life)


def naive_utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=timezone.utc).replace(tzinfo=None)


class Raise:
    """An outcome that raises."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self) -> None:
        raise self._error


class WatchedClock(FakeClock):
    """A fake clock that knows how often each thread has looked at it."""

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self.seen: Counter[int] = Counter()

    def __call__(self) -> float:
        self.seen[threading.get_ident()] += 1
        return super().__call__()


@pytest.fixture
def clock() -> WatchedClock:
    pytest.importorskip("google.auth")
    return WatchedClock(START)


@pytest.fixture
def google(clock: WatchedClock) -> FakeGoogle:
    return FakeGoogle(clock)


@pytest.fixture
def credentials(google: FakeGoogle, clock: WatchedClock) -> GoogleCredentials:
    return google_credentials(google, project_id="p", clock=clock)


def bearer(number: int) -> Headers:
    return (("Authorization", f"Bearer ya29.token-{number}"),)


def transport_error(text: str = "Connection refused") -> Exception:
    from google.auth.exceptions import TransportError

    return TransportError(OSError(text))


def refresh_error(*args: Any, retryable: bool = False) -> Exception:
    from google.auth.exceptions import RefreshError

    return RefreshError(*args, retryable=retryable)


class Asked:
    """`headers()` asked in a thread of its own."""

    def __init__(self, credentials: GoogleCredentials) -> None:
        self.answer: Headers | None = None
        self.error: BaseException | None = None
        self._credentials = credentials
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        try:
            self.answer = self._credentials.headers()
        except BaseException as error:
            self.error = error

    def join(self) -> Asked:
        self._thread.join(LONG)
        assert not self._thread.is_alive()
        return self


# --- when a token is renewed ------------------------------------------------------------------------------------------


def test_the_first_request_fetches_a_token_and_the_next_ones_use_it(
    credentials: GoogleCredentials, google: FakeGoogle
) -> None:
    assert google.refreshes == 0
    assert [credentials.headers() for _ in range(3)] == [bearer(1)] * 3
    assert google.refreshes == 1


def test_a_fresh_token_is_given_without_a_lock(credentials: GoogleCredentials) -> None:
    first = credentials.headers()
    with credentials._lock:
        assert Asked(credentials).join().answer is first


def test_a_token_is_renewed_a_margin_before_its_end(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock
) -> None:
    credentials.headers()
    clock.advance(LIFE - REFRESH_MARGIN - 1)
    assert credentials.headers() == bearer(1)
    clock.advance(1)
    assert credentials.headers() == bearer(2)
    assert credentials.headers() == bearer(2)
    assert google.refreshes == 2


def test_a_token_without_an_end_is_used_for_ever(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock
) -> None:
    google.life = None
    credentials.headers()
    clock.advance(10 * 365 * 86_400)
    assert credentials.headers() == bearer(1)


def test_a_token_that_the_credentials_hold_already_is_used(credentials: GoogleCredentials, google: FakeGoogle) -> None:
    google.hold("ya29.theirs", LIFE)
    assert credentials.headers() == (("Authorization", "Bearer ya29.theirs"),)
    assert google.refreshes == 0


def test_a_token_that_the_credentials_hold_but_that_ends_soon_is_renewed(
    credentials: GoogleCredentials, google: FakeGoogle
) -> None:
    google.hold("ya29.theirs", REFRESH_MARGIN)
    assert credentials.headers() == bearer(1)


def test_a_renewal_by_somebody_else_is_taken_over(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock
) -> None:
    credentials.headers()
    clock.advance(LIFE - 10)
    google.hold("ya29.theirs", LIFE)
    assert credentials.headers() == (("Authorization", "Bearer ya29.theirs"),)
    assert google.refreshes == 1


@pytest.mark.parametrize("zone", [timezone.utc, timezone(timedelta(hours=9))])
def test_an_end_that_names_its_zone_is_understood(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock, zone: timezone
) -> None:
    google.token = "ya29.theirs"
    google.expiry = datetime.fromtimestamp(START + REFRESH_MARGIN + 1, tz=zone)
    assert credentials.headers() == (("Authorization", "Bearer ya29.theirs"),)
    clock.advance(REFRESH_MARGIN)
    assert credentials.headers() == bearer(1)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone is the machine's here")
def test_an_end_without_a_zone_is_utc_wherever_the_machine_is(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        with monkeypatch.context() as patch:
            patch.setenv("TZ", "JST-9")
            time.tzset()
            credentials.headers()
            clock.advance(LIFE - REFRESH_MARGIN - 1)
            assert credentials.headers() == bearer(1)
            clock.advance(1)
            assert credentials.headers() == bearer(2)
    finally:
        time.tzset()


def test_a_server_that_gives_the_same_token_again_is_not_asked_at_each_request(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock
) -> None:
    credentials.headers()
    ends = clock.now + LIFE
    clock.advance(LIFE - REFRESH_MARGIN)
    google.outcome = lambda: setattr(google, "life", ends - clock.now)
    while clock.now < ends - 1:
        credentials.headers()
        clock.advance(0.5)
    assert google.refreshes < 12  # a half of what is left, each time


def test_a_token_that_is_given_out_at_its_end_is_used_once(credentials: GoogleCredentials, google: FakeGoogle) -> None:
    google.life = -5
    assert credentials.headers() == bearer(1)
    assert credentials.headers() == bearer(2)


def test_the_token_server_is_asked_within_a_time_limit(credentials: GoogleCredentials, google: FakeGoogle) -> None:
    credentials.headers()
    assert google.request.keywords == {"timeout": TOKEN_TIMEOUT}
    assert google.request.session is google.request.func.session  # google-auth looks for it


def test_a_token_may_be_bytes(credentials: GoogleCredentials, google: FakeGoogle) -> None:
    google.hold(b"ya29.bytes", LIFE)
    assert credentials.headers() == (("Authorization", "Bearer ya29.bytes"),)


def test_a_quota_project_is_named_in_a_header(credentials: GoogleCredentials, google: FakeGoogle) -> None:
    google.quota_project_id = "who-pays"
    assert credentials.headers() == (*bearer(1), ("x-goog-user-project", "who-pays"))


# --- one renewal for all threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["no token", "an expired token"])
def test_fifty_threads_without_a_token_wait_for_one_renewal(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock, before: str
) -> None:
    if before == "an expired token":
        credentials.headers()
        clock.advance(LIFE)
    done = google.refreshes
    gate = threading.Event()
    google.outcome = lambda: gate.wait(LONG)
    clock.seen.clear()
    threads = [Asked(credentials) for _ in range(50)]
    assert eventually(lambda: len(clock.seen) == 50)
    gate.set()
    assert {thread.join().answer for thread in threads} == {bearer(done + 1)}
    assert google.refreshes == done + 1


def test_fifty_threads_learn_of_one_failure_each_by_an_error_of_its_own(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock
) -> None:
    gate = threading.Event()

    def fail() -> None:
        gate.wait(LONG)
        raise transport_error()

    google.outcome = fail
    threads = [Asked(credentials) for _ in range(50)]
    assert eventually(lambda: len(clock.seen) == 50)
    gate.set()
    errors = [thread.join().error for thread in threads]
    assert {type(error) for error in errors} == {ConnectionFailed}
    assert len({id(error) for error in errors}) == 50
    assert google.refreshes == 1


def test_the_request_after_a_failure_tries_again(credentials: GoogleCredentials, google: FakeGoogle) -> None:
    google.outcome = Raise(transport_error())
    for _ in range(2):
        with pytest.raises(ConnectionFailed):
            credentials.headers()
    assert google.refreshes == 2
    google.outcome = lambda: None
    assert credentials.headers() == bearer(3)


def test_while_one_thread_renews_early_the_others_use_the_old_token(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock
) -> None:
    credentials.headers()
    clock.advance(LIFE - REFRESH_MARGIN)
    gate = threading.Event()
    google.outcome = lambda: gate.wait(LONG)
    renewing = Asked(credentials)
    assert eventually(lambda: google.refreshes == 2)
    assert [credentials.headers() for _ in range(5)] == [bearer(1)] * 5
    gate.set()
    assert renewing.join().answer == bearer(2)
    assert credentials.headers() == bearer(2)
    assert google.refreshes == 2


def test_an_early_renewal_during_which_the_token_ends_is_waited_for(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock
) -> None:
    credentials.headers()
    clock.advance(LIFE - REFRESH_MARGIN)
    gate = threading.Event()

    def fail() -> None:
        gate.wait(LONG)
        raise transport_error()

    google.outcome = fail
    renewing = Asked(credentials)
    assert eventually(lambda: google.refreshes == 2)
    clock.advance(REFRESH_MARGIN)
    clock.seen.clear()
    waiting = [Asked(credentials) for _ in range(3)]
    assert eventually(lambda: list(clock.seen.values()) == [2, 2, 2])  # the second look comes with the renewal in hand
    gate.set()
    assert {type(asked.join().error) for asked in [renewing, *waiting]} == {ConnectionFailed}
    assert google.refreshes == 2


def test_a_renewal_that_is_interrupted_is_taken_over_by_a_thread_that_waits(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock
) -> None:
    gate = threading.Event()

    def interrupted() -> None:
        gate.wait(LONG)
        google.outcome = lambda: None
        raise KeyboardInterrupt

    google.outcome = interrupted
    first = Asked(credentials)
    assert eventually(lambda: google.refreshes == 1)
    second = Asked(credentials)
    assert eventually(lambda: len(clock.seen) == 2)
    gate.set()
    assert isinstance(first.join().error, KeyboardInterrupt)
    assert second.join().answer == bearer(2)


def test_a_thread_that_is_interrupted_before_it_asks_leaves_nobody_waiting(
    google: FakeGoogle, clock: WatchedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = google_credentials(google, project_id="p", clock=clock)

    def interrupted(*_: object) -> Headers:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(GoogleCredentials, "_renew", interrupted)
        credentials.headers()
    assert Asked(credentials).join().answer == bearer(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are only spawned here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_a_renewal_of_its_parent(
    credentials: GoogleCredentials, google: FakeGoogle
) -> None:
    gate = threading.Event()
    google.outcome = lambda: gate.wait(LONG)
    renewing = Asked(credentials)
    assert eventually(lambda: google.refreshes == 1)
    with credentials._lock:  # as another thread of the parent may hold it
        child = os.fork()
        if not child:
            signal.alarm(10)
            google.outcome = lambda: None
            os._exit(0 if credentials.headers() == bearer(2) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gate.set()
    assert renewing.join().answer == bearer(1)


# --- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_early_renewal_keeps_the_old_token_and_pauses(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock, caplog: pytest.LogCaptureFixture
) -> None:
    credentials.headers()
    clock.advance(LIFE - REFRESH_MARGIN)
    google.outcome = Raise(transport_error())
    with caplog.at_level(logging.WARNING, "flexllm.vertex"):
        assert [credentials.headers() for _ in range(10)] == [bearer(1)] * 10
        assert (google.refreshes, len(caplog.records)) == (2, 1)
        clock.advance(RENEW_PAUSE)
        assert credentials.headers() == bearer(1)
        assert (google.refreshes, len(caplog.records)) == (3, 2)
    assert "Connection refused" in caplog.text
    assert "300 s" in caplog.text
    assert "ya29" not in caplog.text


def test_the_log_gets_at_most_one_line_a_minute(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock, caplog: pytest.LogCaptureFixture
) -> None:
    credentials.headers()
    clock.advance(LIFE - REFRESH_MARGIN)
    google.outcome = Raise(transport_error())
    with caplog.at_level(logging.WARNING, "flexllm.vertex"):
        for _ in range(int(REFRESH_MARGIN)):
            credentials.headers()
            clock.advance(1)
    assert len(caplog.records) == REFRESH_MARGIN / 60


def test_a_token_that_cannot_be_renewed_by_its_end_is_an_error(
    credentials: GoogleCredentials, google: FakeGoogle, clock: WatchedClock
) -> None:
    credentials.headers()
    clock.advance(LIFE - 30)  # the pause after this failure is longer than what is left
    google.outcome = Raise(transport_error())
    assert credentials.headers() == bearer(1)
    clock.advance(29)
    assert credentials.headers() == bearer(1)
    clock.advance(1)
    with pytest.raises(ConnectionFailed):
        credentials.headers()
    google.outcome = lambda: None
    assert credentials.headers() == bearer(google.refreshes)


def certificate_error() -> Exception:
    wrapped = transport_error()
    try:
        try:
            raise ssl.SSLCertVerificationError(1, "self-signed certificate")
        except OSError as error:
            raise wrapped from error
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("make", "kind", "retryable"),
    [
        (transport_error, ConnectionFailed, True),
        (lambda: refresh_error("internal_failure", retryable=True), ConnectionFailed, True),
        (lambda: refresh_error("invalid_grant: Token has been expired or revoked.", {}), AuthenticationFailed, False),
        (lambda: ConnectionResetError("reset by peer"), ConnectionFailed, True),
        (lambda: TimeoutError("timed out"), ConnectionFailed, True),
        (certificate_error, TlsFailed, False),
        (lambda: ValueError("not what was expected"), AuthenticationFailed, False),
        (lambda: OSError("Could not find a suitable TLS CA certificate bundle"), AuthenticationFailed, False),
        (lambda: KeyError(), AuthenticationFailed, False),
    ],
)
def test_a_failed_renewal_becomes_one_of_our_errors(
    credentials: GoogleCredentials, google: FakeGoogle, make: Callable[[], Exception], kind: type, retryable: bool
) -> None:
    foreign = make()
    google.outcome = Raise(foreign)
    with pytest.raises(kind) as caught:
        credentials.headers()
    assert type(caught.value) is kind
    assert caught.value.__cause__ is foreign
    assert is_retryable(caught.value) is retryable
    assert not str(caught.value).endswith(".")


def test_an_error_gives_the_servers_reason_and_not_its_whole_reply(
    credentials: GoogleCredentials, google: FakeGoogle
) -> None:
    google.outcome = Raise(refresh_error("invalid_grant: Bad Request", {"access_token": "ya29.secret"}))
    with pytest.raises(AuthenticationFailed, match="invalid_grant: Bad Request") as caught:
        credentials.headers()
    assert "secret" not in str(caught.value)
    google.outcome = Raise(refresh_error("<html>" + 10_000 * "x"))
    with pytest.raises(AuthenticationFailed) as caught:
        credentials.headers()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("token", [None, "", "two\r\nlines", "with blank", "ü", b"\xff", 5])
def test_a_token_that_no_header_can_carry_is_an_error(
    credentials: GoogleCredentials, google: FakeGoogle, token: Any
) -> None:
    google.hold = lambda *_: setattr(google, "token", token)  # type: ignore[method-assign]
    with pytest.raises(AuthenticationFailed, match="no token that a header can carry"):
        credentials.headers()


# --- whose credentials, and whose project -----------------------------------------------------------------------------

USER = {
    "type": "authorized_user",
    "client_id": "123.apps.googleusercontent.com",
    "client_secret": "user-secret",
    "refresh_token": "1//user-refresh",
}


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    pytest.importorskip("google.auth")
    path = tmp_path / "user.json"
    path.write_text(json.dumps(USER))
    return path


@pytest.mark.parametrize("form", ["text", "path", "mapping", "read-only mapping", "with BOM", "below home"])
def test_a_users_file_is_taken_in_every_form(user_file: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("HOME", str(user_file.parent))
    if form == "with BOM":
        user_file.write_text("\ufeff" + json.dumps(USER), encoding="utf-8")
    given_as: dict[str, Any] = {
        "text": str(user_file),
        "path": user_file,
        "mapping": USER,
        "read-only mapping": MappingProxyType(USER),
        "with BOM": user_file,
        "below home": "~/user.json",
    }
    credentials = google_credentials(given_as[form], project_id="p")
    assert credentials._found is not None
    identity: Any = credentials._found.credentials
    assert (identity.refresh_token, identity.client_id) == (USER["refresh_token"], USER["client_id"])


def test_a_quota_project_comes_from_the_file_or_else_from_the_environment(
    user_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quota_project(content: dict[str, str]) -> Any:
        found: Any = google_credentials(content, project_id=None)._found
        return found.credentials.quota_project_id

    assert quota_project(USER) is None
    assert quota_project({**USER, "quota_project_id": "files"}) == "files"
    monkeypatch.setenv("GOOGLE_CLOUD_QUOTA_PROJECT", "environments")
    assert quota_project(USER) == "environments"


def test_credentials_that_need_a_scope_are_given_the_one_for_the_cloud(clock: WatchedClock) -> None:
    import google.auth.credentials

    class Unscoped(FakeGoogle, google.auth.credentials.Scoped):
        scopes: Any = None

        @property
        def requires_scopes(self) -> bool:
            return self.scopes is None

        def with_scopes(self, scopes: Any, default_scopes: Any = None) -> Unscoped:
            copy = Unscoped(clock)
            copy.scopes = scopes
            return copy

        def refresh(self, request: Any) -> None:
            assert self.scopes == [SCOPE]
            super().refresh(request)

    assert google_credentials(Unscoped(clock), project_id="p", clock=clock).headers() == bearer(1)


@pytest.mark.parametrize("value", [5, 0, True, b"bytes", ["a"], object(), FakeGoogle, (1,)])
def test_what_is_no_credentials_is_refused_by_its_type(clock: WatchedClock, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"credentials= must be .* not a value of type"):
        google_credentials(value, project_id="p")


@pytest.mark.parametrize("secret", ['{"type": "service_account"}', " {}", "ya29.a0Af", "AIzaSyD", "-----BEGIN PRIVATE"])
def test_a_secret_in_the_place_of_a_path_is_not_repeated(clock: WatchedClock, secret: str) -> None:
    with pytest.raises(ConfigError, match="a secret where a path is expected") as caught:
        google_credentials(secret, project_id="p")
    assert secret.strip() not in str(caught.value)


def test_a_file_that_is_missing_is_named(clock: WatchedClock, tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path / "none.json", "No such file"),
        (tmp_path, "Is a directory"),
        ("", "No such file"),
        ("a\0b", "not a JSON file"),
    ]:
        with pytest.raises(ConfigError, match=f"cannot be read: .*{reason}"):
            google_credentials(path, project_id="p")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is not a JSON file"),
        (b"no json", "it is not a JSON file"),
        (b"\xff\xfe", "it is not a JSON file"),
        (b"[]", "of type 'service_account' or 'authorized_user', not None"),
        (b"null", "not None"),
        (b"{}", "not None"),
        (b'{"type": "external_account"}', "not 'external_account'.*GOOGLE_APPLICATION_CREDENTIALS"),
        (b'{"type": ["x"]}', "not \\['x'\\]"),
        (b'{"type": "authorized_user", "client_id": "c"}', "is not valid: .*missing fields"),
        (b'{"type": "service_account", "client_email": "a@b"}', "is not valid: .*missing fields"),
        (
            b'{"type": "service_account", "client_email": "a@b", "token_uri": "http://127.0.0.1", "private_key": "zzz"}',
            "is not valid: ",
        ),
        (
            b'{"type": "service_account", "client_email": 1, "token_uri": 2, "private_key": 3}',
            "is not valid: ",
        ),
        (
            b'{"type": "authorized_user", "client_id": 1, "client_secret": 2, "refresh_token": 3, "expiry": 4}',
            "is not valid: ",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_that_says_why(
    clock: WatchedClock, tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "key.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"key.json'.*{reason}") as caught:
        google_credentials(path, project_id="p")
    assert not str(caught.value).endswith(".")
    assert "zzz" not in str(caught.value)


def test_without_google_auth_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth.credentials", None)
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(ConfigError, match=r'pip install "flexllm\[vertex\]"'):
        google_credentials(None, project_id="p")


def test_google_auth_is_not_imported_before_it_is_needed() -> None:
    code = "import sys, flexllm.vertex; sys.exit('google.auth' in sys.modules or 'requests' in sys.modules)"
    root = Path(sys.modules["flexllm"].__file__ or "").parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_default_credentials_are_looked_for_once_at_the_first_request(
    clock: WatchedClock, google: FakeGoogle, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[list[str]] = []

    def default(*, scopes: list[str], request: object) -> tuple[FakeGoogle, None]:
        looked.append(scopes)
        return google, None

    monkeypatch.setattr("google.auth.default", default)
    credentials = google_credentials(None, project_id="p", clock=clock)
    assert (credentials.project, looked) == ("p", [])
    assert credentials.headers() == bearer(1)
    clock.advance(LIFE)
    assert credentials.headers() == bearer(2)
    assert looked == [[SCOPE]]


def test_without_default_credentials_the_ways_to_give_them_are_named(
    clock: WatchedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from google.auth.exceptions import DefaultCredentialsError

    def default(**_: object) -> None:
        raise DefaultCredentialsError("Your default credentials were not found.")

    monkeypatch.setattr("google.auth.default", default)
    credentials = google_credentials(None, project_id="p")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"gcloud auth application-default login.*GOOGLE_APPLICATION_CREDENTIALS"):
            credentials.headers()


@pytest.mark.parametrize("kind", ["TransportError", "RefreshError"])
def test_default_credentials_whose_project_cannot_be_asked_for_are_no_wrong_configuration(
    clock: WatchedClock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import google.auth.exceptions

    def default(**_: object) -> None:
        raise getattr(google.auth.exceptions, kind)("down", retryable=True)

    monkeypatch.setattr("google.auth.default", default)
    with pytest.raises(ConnectionFailed, match="down"):
        default_project()


def test_default_credentials_whose_file_is_missing_or_broken_are_an_error(
    clock: WatchedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "adc.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    for content in [None, "", "[]", '{"type": "new_kind"}', '{"type": "service_account", "private_key": 3}']:
        if content is not None:
            path.write_text(content)
        for ask in (lambda: google_credentials(None, project_id="p").headers(), default_project):
            with pytest.raises(ConfigError, match="no Google credentials can be used") as caught:
                ask()
            assert not str(caught.value).endswith(".")


def default_project() -> str:
    return google_credentials(None, project_id=None).project


class WithProject(FakeGoogle):
    project_id = "objects"


@pytest.mark.parametrize(
    ("given_project", "kind", "environment", "expected"),
    [
        ("given", "object", "environments", "given"),
        ("given", "file", None, "given"),
        (None, "object", "environments", "objects"),
        ("", "object", None, "objects"),
        (None, "file", "environments", "files"),
        (None, "file without", "environments", "environments"),
        (None, "object without", "environments", "environments"),
        (None, "default", "environments", "environments"),
        (None, "default", None, "files"),
        ("given", "default", None, "given"),
    ],
)
def test_the_project_is_the_given_one_or_the_credentials_or_the_environments(
    clock: WatchedClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given_project: str | None,
    kind: str,
    environment: str | None,
    expected: str,
) -> None:
    if environment:
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", environment)
    forms: dict[str, Any] = {
        "object": WithProject(clock),
        "object without": FakeGoogle(clock),
        "file": {**USER, "project_id": "files"},
        "file without": {**USER, "project_id": 5},
        "default": None,
    }
    if kind == "default":
        import google.auth

        monkeypatch.setattr(google.auth, "default", lambda **_: (FakeGoogle(clock), "files"))
    assert google_credentials(forms[kind], project_id=given_project).project == expected


def test_a_project_that_nobody_names_is_asked_for(clock: WatchedClock) -> None:
    with pytest.raises(ConfigError, match="give project_id="):
        _ = google_credentials(USER, project_id=None).project


@pytest.mark.parametrize("value", [5, b"p", ["p"]])
def test_a_project_that_is_no_text_is_refused(clock: WatchedClock, value: Any) -> None:
    with pytest.raises(ConfigError, match="project_id="):
        google_credentials(USER, project_id=value)


def test_a_repr_shows_no_secret(clock: WatchedClock, google: FakeGoogle, credentials: GoogleCredentials) -> None:
    credentials.headers()
    user = google_credentials({**USER, "token": "ya29.users"}, project_id=None)
    shown = f"{credentials!r} {user!r} {google_credentials(None, project_id='p')!r}"
    assert "project_id='p'" in shown
    assert "application default" in shown
    for secret in ("ya29", USER["client_secret"], USER["refresh_token"]):
        assert secret not in shown
