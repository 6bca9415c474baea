"""TCP connections between a pool and its remote workers, the worker processes of other nodes."""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import socket
import struct
import time
from dataclasses import dataclass

from suite.workers.process import RemoteWorker

_HELLO_S = 1.0
_HELLO_BYTES = 128
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""Seconds and probes after which a silent node counts as lost."""
_SIOCGIFADDR = 0x8915


@dataclass(frozen=True)
class Place:
    """Number and location of the ranks of a run."""

    ranks: int = 1
    address: str = "127.0.0.1"
    """Address of this node, at which the other ranks reach rank 0."""
    listener: socket.socket | None = None
    """Socket to which remote workers connect, for one run at a time; None if all ranks are local."""
    key: str = ""
    """Secret that a remote worker must send."""


def connect(address: str, port: int, rank: int, key: str) -> socket.socket:
    """Connect a remote worker to the pool that listens at `address`; `key` is the pool's secret.

    Raises OSError if no pool listens.
    """
    connection = socket.create_connection((address, port), timeout=5 * _HELLO_S)
    connection.sendall(f"{key} {rank}\n".encode())
    return _with_keepalive(connection)


def accept(listener: socket.socket, key: str) -> tuple[RemoteWorker, int] | None:
    """Accept a waiting connection; return its worker and rank, or None if the key is wrong."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    word, _, rank = _read_hello(connection).partition(" ")
    if not hmac.compare_digest(word.encode(), key.encode()) or not rank.isdecimal():
        connection.close()
        return None
    return RemoteWorker(_with_keepalive(connection)), int(rank)


def _read_hello(connection: socket.socket) -> str:
    """Return the first line of a connection, or an empty string if none arrives in time."""
    deadline, hello = time.monotonic() + _HELLO_S, b""
    with contextlib.suppress(OSError):
        while not hello.endswith(b"\n") and len(hello) < _HELLO_BYTES:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            byte = connection.recv(1)  # a larger read could take the start of the first event
            if not byte or time.monotonic() > deadline:
                return ""
            hello += byte
    return hello.decode(errors="replace").strip() if hello.endswith(b"\n") else ""


def _with_keepalive(connection: socket.socket) -> socket.socket:
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def gloo_interface(address: str) -> dict[str, str]:
    """Return the environment variable that makes gloo use the interface that reaches `address`.

    By default, gloo uses the address of the host's name, which on Debian is the loopback address 127.0.1.1.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))  # sends nothing
            own = probe.getsockname()[0]
        except OSError:
            return {}
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)
                if socket.inet_ntoa(answer[20:24]) == own:
                    return {"GLOO_SOCKET_IFNAME": name}
    return {}
