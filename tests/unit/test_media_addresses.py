"""Which addresses belong to the public internet; the rest is not asked for media unless the caller allows it."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexllm.transport.guard import is_public


@pytest.mark.parametrize(
    "address",
    [
        "93.184.216.34",
        "8.8.8.8",
        "2606:2800:220:1:248:1893:25c8:1946",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",  # where clouds keep the machine's credentials
        "100.64.0.1",
        "0.0.0.0",
        "0.1.2.3",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "2001:db8::1",
        "100::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::10.0.0.1",
        "2002:7f00:1::1",
        "2002:808:808::1",  # a tunnel, even to a public address
        "2002:a9fe:a9fe::1",
        "2001:0:7f00:1::1",
        "2001:0:808:808::1",
        "localhost",
        "",
        "/var/run/docker.sock",
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_that_wraps_another_is_as_public_as_that(inner: ipaddress.IPv4Address) -> None:
    number = int(inner)
    mapped = ipaddress.IPv6Address(0xFFFF_0000_0000 | number)
    translated = ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | number)
    assert is_public(str(mapped)) == is_public(str(translated)) == is_public(str(inner))


@given(st.text(max_size=30) | st.ip_addresses().map(str))
def test_any_text_gets_an_answer(address: str) -> None:
    assert is_public(address) in (True, False)
