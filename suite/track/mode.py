"""Target of the mirror: online with a key, else offline, or none.

This module neither uses the network nor imports wandb. It searches for the key in the same places as wandb.
"""

from __future__ import annotations

import configparser
import netrc
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from suite.code_hash import ROOT
from suite.errors import SteppeError

MODES = ("online", "offline", "off")
_WANDB_MODES = {
    "": None,
    **dict.fromkeys(("online", "run"), "online"),
    **dict.fromkeys(("offline", "dryrun"), "offline"),
    **dict.fromkeys(("disabled", "disable", "off", "none", "false"), "off"),
}
_NOT_DISABLED = ("", "0", "f", "false", "n", "no", "off")
SAAS = "https://api.wandb.ai"
PROJECT = "steppe"

_OTHER_RUNS = frozenset((
    "WANDB_CONFIG", "WANDB_CONSOLE", "WANDB_DIR", "WANDB_DISABLED", "WANDB_FORK_FROM", "WANDB_JOB_TYPE",
    "WANDB_MODE", "WANDB_NAME", "WANDB_NOTES", "WANDB_RESUME", "WANDB_RESUME_FROM", "WANDB_RUN_GROUP",
    "WANDB_RUN_ID", "WANDB_SERVICE", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_TAGS",
))  # fmt: skip
"""Variables that would make wandb write to another run."""


@dataclass(frozen=True)
class Target:
    """Target of a mirror: `mode` is online or offline; server, entity and project are W&B's.

    It is printed and stored, so it contains no secrets; these are passed in the environment only.
    """

    mode: str
    server: str
    project: str = PROJECT
    entity: str = ""

    def environment(self) -> dict[str, str]:
        """Return the environment of the mirror's processes, without variables that select another run."""
        kept = {key: value for key, value in os.environ.items() if key not in _OTHER_RUNS}
        kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
        address = _address()
        return {
            **kept,
            "WANDB_BASE_URL": address if without_secrets(address) == self.server else self.server,
            "WANDB_ERROR_REPORTING": "false",
            "WANDB_SILENT": "true",
        }


def choose(requested: str | None) -> Target | None:
    """Return the target, or None for no mirror: as requested, else by WANDB_MODE, else online with a key.

    Raises SteppeError if online is requested without a key, or if WANDB_MODE is unknown.
    """
    mode = requested or _mode_of_environment()
    if mode == "off":
        return None
    server = without_secrets(_address())
    keyed = has_key(server)
    if requested == "online" and not keyed:
        raise SteppeError(f"no W&B key for {server}: {login(server)} stores one, or --wandb offline")
    online = keyed and mode != "offline"
    return Target(
        "online" if online else "offline",
        server,
        os.environ.get("WANDB_PROJECT") or PROJECT,
        os.environ.get("WANDB_ENTITY", ""),
    )


def _mode_of_environment() -> str | None:
    """Return the mode in the environment; None if it sets none."""
    if os.environ.get("WANDB_DISABLED", "").strip().lower() not in _NOT_DISABLED:
        return "off"
    value = os.environ.get("WANDB_MODE", "")
    try:
        return _WANDB_MODES[value.strip().lower()]
    except KeyError:
        raise SteppeError(
            f"WANDB_MODE={value!r} is not known here: online, offline or disabled, or give --wandb"
        ) from None


def login(server: str) -> str:
    """Return the command that stores a key for the server, in backticks."""
    return "`wandb login`" if server == SAAS else f"`wandb login --host {server}`"


def without_secrets(text: str) -> str:
    """Remove `user:password@` from every address in the text."""
    return re.sub(r"//[^/?#\s]*@", "//", text)


def _address() -> str:
    """Return the server's address: WANDB_BASE_URL, else the address stored by `wandb login --host`."""
    return (os.environ.get("WANDB_BASE_URL") or _stored_address() or SAAS).rstrip("/")


def _stored_address() -> str:
    folder = os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb"
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path(folder).expanduser() / "settings", encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError, RuntimeError):  # RuntimeError: no home folder
        return ""
    return parser.get("default", "base_url", fallback="")


def has_key(server: str) -> bool:
    """Whether WANDB_API_KEY, an identity token or the netrc file has a key for the server."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    for path in [named] if named else ["~/.netrc", "~/_netrc"]:
        try:
            found = netrc.netrc(Path(path).expanduser()).authenticators(urlsplit(server).netloc)
        except (OSError, netrc.NetrcParseError, ValueError, RuntimeError):
            # No file, no netrc file, no address, no home folder.
            continue
        if found is not None and found[2]:
            return True
    return False
