"""Connections between the pool of a run's rank 0 and the worker processes of other nodes."""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import socket
import struct
import time

from suite.workers.process import RemoteWorker

_HELLO_S = 1.0
_HELLO_BYTES = 128
_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""Seconds and tries after which a node that says nothing more counts as lost."""
_SIOCGIFADDR = 0x8915


def connect(address: str, port: int, rank: int, key: str) -> socket.socket:
    """Connect a worker process to the pool that listens there; raises OSError where none does.

    `key` is the secret that lets it in.
    """
    line = socket.create_connection((address, port), timeout=5 * _HELLO_S)
    line.sendall(f"{key} {rank}\n".encode())
    return _kept(line)


def accept(listener: socket.socket, key: str) -> tuple[RemoteWorker, int] | None:
    """Accept a waiting connection; return its worker and rank, or None where it does not know the key."""
    try:
        line, _ = listener.accept()
    except OSError:
        return None
    word, _, rank = _hello(line).partition(" ")
    if not hmac.compare_digest(word.encode(), key.encode()) or not rank.isdecimal():
        line.close()
        return None
    return RemoteWorker(_kept(line)), int(rank)


def _hello(line: socket.socket) -> str:
    """Return the first line that is said, within a moment; nothing where none is."""
    until, said = time.monotonic() + _HELLO_S, b""
    with contextlib.suppress(OSError):
        while not said.endswith(b"\n") and len(said) < _HELLO_BYTES:
            line.settimeout(max(0.01, until - time.monotonic()))
            byte = line.recv(1)  # not one more, which would be the first of an event
            if not byte or time.monotonic() > until:
                return ""
            said += byte
    return said.decode(errors="replace").strip() if said.endswith(b"\n") else ""


def _kept(line: socket.socket) -> socket.socket:
    line.settimeout(None)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _ALIVE.items():
        line.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return line


def towards(address: str) -> dict[str, str]:
    """Return the variable that has gloo use the network on which `address` is reached.

    By itself it takes what the host's name resolves to, which on Debian is no address at all (127.0.1.1).
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
