"""Lines between the pool of a run's rank 0 and the worker processes of other nodes."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

from suite.local.process import Caller

_HELLO_S = 5.0
_HELLO_BYTES = 12
_SIOCGIFADDR = 0x8915


def call(address: str, port: int, rank: int) -> socket.socket:
    """Call the pool that listens there, on behalf of a worker process; raises OSError where none answers."""
    line = socket.create_connection((address, port), timeout=_HELLO_S)
    line.sendall(b"%d\n" % rank)
    line.settimeout(None)
    return line


def pick_up(listener: socket.socket) -> tuple[Caller, int] | None:
    """Take a waiting call; return it with the rank that it says, or None where it says nothing sensible."""
    try:
        line, _ = listener.accept()
    except OSError:
        return None
    line.settimeout(_HELLO_S)
    said = b""
    with contextlib.suppress(OSError):
        while not said.endswith(b"\n") and len(said) < _HELLO_BYTES and (byte := line.recv(1)):
            said += byte
    if not (said.endswith(b"\n") and said.strip().isdigit()):
        line.close()
        return None
    line.settimeout(None)
    return Caller(line), int(said)


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
