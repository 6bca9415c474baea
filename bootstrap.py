"""Make the project's own Python environment, then run a command in it: `python3 bootstrap.py steppe demo`.

Needs a Python of at least 3.11 with pip, nothing else. The packages are those of requirements.lock, each
checked by its hash, in `.venv` beside this file. A second call finds the environment ready and only runs the
command; it is made anew when the lock has changed or when an earlier call was cut short.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
USAGE = "usage: python3 bootstrap.py [--venv DIR] [--lock FILE] [COMMAND [ARGUMENT ...]]"
MARKER = "steppe-bootstrap"
"""File in an environment that this script made; it holds the stamps of what is installed in it."""

NEEDED_GB = 8
SPEAK_EVERY_S = 5.0


class SetUpError(Exception):
    """What went wrong and what mends it, in one line."""


def main(arguments: list[str]) -> None:
    """Parse, make the environment ready, and replace this process by the command."""
    places = {"--venv": ROOT / ".venv", "--lock": ROOT / "requirements.lock"}
    while arguments and arguments[0].startswith("-"):
        flag = arguments.pop(0)
        if flag in ("-h", "--help"):
            print(__doc__ + "\n" + USAGE)
            return
        if flag not in places or not arguments:
            raise SetUpError(f"unknown option {flag}; {USAGE}")
        places[flag] = Path(arguments.pop(0)).absolute()
    make_ready(places["--venv"], places["--lock"])
    if not arguments:
        say("ready: {} holds the programs".format(places["--venv"] / "bin"))
        return
    run(places["--venv"], arguments)


def make_ready(venv: Path, lock: Path) -> None:
    """Install what the lock and the project's metadata ask for, unless the stamps say that it is done."""
    if not lock.is_file():
        raise SetUpError(f"no lock file {lock}")
    wanted = [stamp(lock.read_bytes(), sys.version.encode()), stamp((ROOT / "pyproject.toml").read_bytes())]
    found = stamps(venv)
    if found == wanted:
        return
    started = time.monotonic()
    if found[:1] != wanted[:1]:
        create(venv)
        install(
            venv, "packages of " + lock.name, ["--require-hashes", "--only-binary=:all:", "-r", str(lock)]
        )
        write_stamps(venv, wanted[:1])
    install(venv, "steppe itself", ["--no-build-isolation", "-e", str(ROOT)])
    write_stamps(venv, wanted)
    say(f"environment ready after {time.monotonic() - started:.0f} s")


def stamp(*parts: bytes) -> str:
    """One hash of all parts, the place of the project being one of them: an environment cannot be moved."""
    return hashlib.sha256(b"\0".join((str(ROOT).encode(), *parts))).hexdigest()


def stamps(venv: Path) -> list[str]:
    """Read the stamps of an environment; none where it is missing, cut short or broken."""
    try:
        lines = (venv / MARKER).read_text().split()
        works = subprocess.call([str(venv / "bin" / "python"), "-c", ""], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return []
    return lines if works else []


def write_stamps(venv: Path, lines: list[str]) -> None:
    """Replace the stamps in one step, so that a reader sees the old ones or the new ones."""
    new = venv / (MARKER + ".new")
    new.write_text("\n".join(lines))
    os.replace(new, venv / MARKER)


def create(venv: Path) -> None:
    """Make an empty environment, in place of one that this script had made."""
    if venv.exists():
        if not (venv / MARKER).is_file():
            raise SetUpError(f"{venv} was not made by this script: move it away, or give --venv DIR")
        say(f"removing the outdated or unfinished {venv}")
        shutil.rmtree(venv)
    venv.parent.mkdir(parents=True, exist_ok=True)
    free_gb = shutil.disk_usage(venv.parent).free / 1e9
    if free_gb < NEEDED_GB:
        raise SetUpError(
            f"{free_gb:.1f} GB free at {venv.parent}, {NEEDED_GB} needed: free some, or give --venv DIR"
        )
    venv.mkdir()
    write_stamps(venv, [])
    try:
        from venv import EnvBuilder
    except ImportError:  # a Debian with python3-minimal alone
        bare_environment(venv)
    else:
        EnvBuilder(symlinks=True, with_pip=False).create(venv)


def bare_environment(venv: Path) -> None:
    """Make what the venv module would: a link to the interpreter, a folder, and the file that says so."""
    (venv / "bin").mkdir()
    for name in ("python", "python3"):
        (venv / "bin" / name).symlink_to(sys.executable)
    version = "{}.{}".format(*sys.version_info)
    (venv / "lib" / ("python" + version) / "site-packages").mkdir(parents=True)
    home = Path(sys.executable).parent
    (venv / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")


def pip(venv: Path) -> list[str]:
    """Find the command of a pip that installs into the environment: the system's, else one of ensurepip."""
    python = str(venv / "bin" / "python")
    outside = [sys.executable, "-m", "pip", "--python", python]
    if subprocess.call([*outside, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0:
        return outside
    inside = [python, "-m", "pip"]
    if (
        subprocess.call([python, "-m", "ensurepip"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        == 0
    ):
        return inside
    raise SetUpError("this Python has no pip: `sudo apt install python3-pip`, then call this again")


def install(venv: Path, what: str, options: list[str]) -> None:
    """Run pip, saying every few seconds how far it is; its whole output is kept in bootstrap.log."""
    command = [
        *pip(venv),
        "install",
        "--no-deps",
        "--no-warn-script-location",
        "--progress-bar",
        "off",
        *options,
    ]
    environment = {"PIP_DEFAULT_TIMEOUT": "120", **os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment |= {"PIP_USER": "0", "PYTHONPATH": ""}
    say(f"installing {what} into {venv}")
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
    )
    assert process.stdout is not None
    output, lines = process.stdout, list[str]()
    reader = threading.Thread(target=lambda: lines.extend(output), daemon=True)
    reader.start()
    told, told_at = "", started
    while reader.is_alive():
        reader.join(1.0)
        now, at = time.monotonic(), stage(lines)
        if now - told_at >= (SPEAK_EVERY_S if at != told else 4 * SPEAK_EVERY_S):
            say(f"{now - started:4.0f} s: {at}")
            told, told_at = at, now
    code = process.wait()
    (venv / "bootstrap.log").write_text("".join(lines))
    if code != 0:
        sys.stderr.write("".join(lines[-15:]))
        raise SetUpError("pip could not install {}; its output is in {}".format(what, venv / "bootstrap.log"))


def stage(lines: list[str]) -> str:
    """Say what pip is at, from the lines that it printed so far."""
    collected = [line.split()[1] for line in lines if line.startswith(("Collecting ", "Obtaining "))]
    if any(line.startswith("Installing collected") for line in lines):
        return f"unpacking {len(collected)} packages"
    return (
        "fetching {}, package {}".format(collected[-1].split("==")[0], len(collected))
        if collected
        else "starting"
    )


def run(venv: Path, command: list[str]) -> None:
    """Replace this process by a program of the environment."""
    program = venv / "bin" / command[0]
    if not program.exists():
        raise SetUpError(
            "{} holds no program {!r}; for instance: steppe, pytest, python".format(venv / "bin", command[0])
        )
    os.environ["VIRTUAL_ENV"] = str(venv)
    os.environ["PATH"] = os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", os.defpath)])
    os.execv(str(program), [str(program), *command[1:]])


def say(text: str) -> None:
    """Print a line of progress at once, apart from the command's own output."""
    print("bootstrap: " + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - this is where the minimum is told
        found_version = "{}.{}".format(*sys.version_info)
        sys.exit(
            "bootstrap: error: Python 3.11 or newer is needed, this is "
            + found_version
            + ": `sudo apt install python3.11`, then `python3.11 bootstrap.py ...`"
        )
    try:
        main(sys.argv[1:])
    except SetUpError as failure:
        print(f"bootstrap: error: {failure}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("bootstrap: interrupted; call it again to start over", file=sys.stderr)
        sys.exit(130)
