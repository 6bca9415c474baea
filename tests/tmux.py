"""A real terminal for `steppe`: tmux on a private server, without user configuration."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOCKET = "steppe-test"
MISSING = None if shutil.which("tmux") else "tmux is missing: apt-get install tmux"


class Tmux:
    """A terminal of the given size with a shell in `folder` that has the command `steppe`."""

    def __init__(self, folder: Path, columns: int, rows: int, **variables: str) -> None:
        self._sockets = tempfile.TemporaryDirectory(prefix="steppe-tmux-")  # a socket's path must be short
        self._folder = folder
        environment = environment_for(folder)
        size = ("-x", str(columns), "-y", str(rows))
        inside = [f"{name}={value}" for name, value in variables.items()]
        shell = ("env", "-u", "TMUX", "PS1=$ ", "ENV=", *inside, "sh")
        self._call("new-session", "-d", *size, "-c", str(folder), *shell, environment=environment)

    def __enter__(self) -> Tmux:
        return self

    def __exit__(self, *_: object) -> None:
        self._call("kill-server", check=False)
        self._sockets.cleanup()

    def _call(self, *command: str, check: bool = True, environment: Mapping[str, str] | None = None) -> str:
        whole = ["tmux", "-u", "-S", f"{self._sockets.name}/{SOCKET}", "-f", "/dev/null", *command]
        answer = subprocess.run(
            whole, capture_output=True, text=True, check=check, env=environment, timeout=60
        )
        return answer.stdout

    def run(self, script: str) -> None:
        """Run a script in the shell; the screen shows only the script's name."""
        path = self._folder / f"do-{uuid.uuid4().hex[:6]}"
        path.write_text(script)
        self._call("send-keys", "-l", f". ./{path.name}")
        self._call("send-keys", "Enter")

    def press(self, key: str) -> None:
        """Press one key, for example C-c."""
        self._call("send-keys", key)

    def resize(self, columns: int, rows: int) -> None:
        """Resize the window."""
        self._call("resize-window", "-x", str(columns), "-y", str(rows))

    def lines(self, *options: str) -> list[str]:
        """Return the screen's lines; `-S -` adds the scrollback, `-J` joins wrapped lines."""
        return self._call("capture-pane", "-p", *options).rstrip("\n").split("\n")

    def styled(self) -> str:
        """Return the screen's text with its colour codes."""
        return self._call("capture-pane", "-e", "-p").rstrip("\n")

    def cursor(self) -> tuple[bool, int, int]:
        """Return whether the cursor is visible, its column and its row."""
        shown, column, row = self._call(
            "display-message", "-p", "#{cursor_flag} #{cursor_x} #{cursor_y}"
        ).split()
        return shown == "1", int(column), int(row)

    def until(self, seen: Callable[[list[str]], bool], limit_s: float = 120.0) -> list[str]:
        """Wait until `seen` accepts the screen's lines, and return them; AssertionError after `limit_s`."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if seen(lines := self.lines()):
                return lines
            time.sleep(0.05)
        raise AssertionError("the terminal never showed that:\n" + "\n".join(self.lines("-S", "-")))


def environment_for(folder: Path) -> dict[str, str]:
    """Return a minimal user environment with the command `steppe`, without the caller's display."""
    commands = folder / ".bin"
    commands.mkdir(parents=True, exist_ok=True)
    program = "import sys; sys.argv[0] = 'steppe'; from suite.cli import main; sys.exit(main())"
    call = shlex.join([sys.executable, "-c", program])
    (commands / "steppe").write_text(f'#!/bin/sh\nexec {call} "$@"\n')
    (commands / "steppe").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LD_LIBRARY_PATH")}
    path = f"{commands}{os.pathsep}{os.environ.get('PATH', '/usr/bin:/bin')}"
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
