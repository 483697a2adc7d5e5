"""The options of `flexllm mock`: what the server would refuse, the command line refuses before, in the reader's language."""

from __future__ import annotations

from typing import Any

import pytest
from command_line import in_process
from foreign import speak
from hypothesis import example, given
from hypothesis import strategies as st

import flexllm.mock
from flexllm.cli.parser import build_parser
from flexllm.errors import ConfigError
from flexllm.mock.faults import FAULTS
from flexllm.mock.options import MockOptions

NUMBERS = st.one_of(
    st.integers(-1, 70_000), st.floats(), st.sampled_from([0, 1, 399, 400, 599, 600, 65535, 65536, 1e12, 1.1e12, 1e300])
)
NAMES = ("port", "error_rate", "error_status", "delay", "token_delay", "retry_after", "rate_limit", "token_rate_limit")
SHARES = st.one_of(
    st.builds("{}:{}".format, st.sampled_from([*FAULTS, "hangs", ""]), st.floats(-0.1, 1.1).map(lambda x: round(x, 1))),
    st.sampled_from(["hang", ":", "", " ", "hang:nan", "hang:inf", "hang:x", " hang : 0.5 ", "hang:0.1:0.2"]),
)


class Taken(Exception):
    """The server took its options."""


def refusal(monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]) -> str | None:
    """Return what the command says of its options, None if it starts the server with them."""

    class Server:
        """Takes what the real one takes, and says so."""

        def __init__(self, host: str, port: int, **options: Any) -> None:
            MockOptions(host=host, port=port, **options)
            raise Taken

    monkeypatch.setattr(flexllm.mock, "MockServer", Server)
    args = build_parser().parse_args(["mock"])
    for name, value in arguments.items():
        setattr(args, name, value)
    try:
        args.run(args)
    except Taken:
        return None
    except ConfigError as error:
        return str(error)
    raise AssertionError("it neither starts nor refuses")


@given(name=st.sampled_from(NAMES), value=NUMBERS)
@example(name="port", value=65535)
@example(name="error_rate", value=1)
@example(name="rate_limit", value=1e12)
def test_each_number_that_the_server_refuses_is_refused_by_the_command_itself(name: str, value: Any) -> None:
    is_whole = name in ("port", "error_status")
    if is_whole != isinstance(value, int) or (name.endswith("rate_limit") and value == 0):
        return  # which the parser refuses
    try:
        MockOptions(**{name: value})
        wanted = None
    except ValueError:
        option = name.replace("_", "-")
        wanted = f"--{option} is {value}; allowed: "
    with pytest.MonkeyPatch.context() as patch:
        said = refusal(patch, {name: value})
    assert said is None if wanted is None else said is not None and said.startswith(wanted)


@given(parts=st.lists(SHARES, max_size=5))
@example(parts=["hang:0.5", "drip:0.5"])
@example(parts=["hang:0.5", "drip:0.6"])
@example(parts=["hang:0.5", "hang:0.1"])
def test_each_fault_that_the_server_refuses_is_refused_by_the_command_itself(parts: list[str]) -> None:
    text = ",".join(parts)
    try:
        MockOptions(faults=text)
        is_right = True
    except ValueError:
        is_right = False
    with pytest.MonkeyPatch.context() as patch:
        said = refusal(patch, {"faults": text})
    assert (said is None) == is_right


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ("hang", "'hang' is not a fault and its share, such as 'hang:0.02'"),
        ("hangs:0.1", f"there is no fault 'hangs'; there are: {', '.join(FAULTS)}"),
        ("hang:2", "the share of the fault 'hang' is 2.0; allowed: 0 to 1"),
        ("hang:0.1,hang:0.1", "the fault 'hang' is given twice"),
        ("hang:0.6,drip:0.6", "the shares of the faults are 1.2 together; allowed: at most 1"),
    ],
)
def test_what_is_wrong_with_faults_is_one_sentence(faults: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert in_process(capsys, "mock", "--faults", faults).sentence == f"flexllm: {said}"


def test_what_is_refused_is_said_in_the_readers_language(monkeypatch: pytest.MonkeyPatch) -> None:
    speak(monkeypatch, {"the fault {name!r} is given twice": "故障 {name!r} 重复"})
    assert refusal(monkeypatch, {"faults": "hang:0.1,hang:0.1"}) == "故障 'hang' 重复"
