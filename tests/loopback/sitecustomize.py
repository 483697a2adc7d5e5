"""Python finds this on PYTHONPATH and runs it first: no program that an example starts connects to another machine.

What is tried all the same fails there, and is appended to the file that EXAMPLES_LEFT_BY names, so that the test fails too.
"""

import ipaddress
import os
import socket
import sys


def _is_here(host: object) -> bool:
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    return text in ("", "None", "localhost", "::1", "::", "0.0.0.0") or text.startswith(("127.", "::ffff:127."))


def _is_address(host: object) -> bool:
    """Whether no name server is asked for it; to connect to it is another matter."""
    try:
        ipaddress.ip_address(str(host))
    except ValueError:
        return False
    return True


def _only_loopback(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not _is_here(address[0]):
            with open(os.environ["EXAMPLES_LEFT_BY"], "a", encoding="utf-8") as file:
                file.write(f"{address[0]}:{address[1]}\n")
            raise OSError(f"an example may not connect to {address[0]}")
    elif event == "socket.getaddrinfo" and not _is_here(arguments[0]) and not _is_address(arguments[0]):
        raise socket.gaierror(socket.EAI_NONAME, f"an example may not look up {arguments[0]}")


if "EXAMPLES_LEFT_BY" in os.environ:
    sys.addaudithook(_only_loopback)
