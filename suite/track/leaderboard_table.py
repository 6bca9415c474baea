"""A leaderboard on W&B: a run of job type leaderboard with a table, and online an artifact."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from suite.files import read_json
from suite.spec import sha256_text
from suite.track.mirror_folder import MirrorFolder
from suite.track.mode import Target

LEADERBOARD = "leaderboard"
_STAGING = "WANDB_DATA_DIR"


def run_id(digest: str) -> str:
    """Return the id of a leaderboard's run, which depends on the content."""
    return f"{LEADERBOARD}-{digest[:16]}"


def publish(store_root: Path, name: str, path: str, target: Target) -> None:
    """Write the table of the JSON file `path`: {"columns", "rows", "files": {name: text}}.

    Offline there is no artifact: `wandb sync` would send the paths of its files to the server. For the same
    reason wandb stages files in a folder with a neutral name, in /tmp if possible, as TMPDIR may lie in a
    home folder.
    """
    import wandb

    given = read_json(Path(path), "call `steppe wandb sync` again")
    folder = MirrorFolder(store_root, name)
    neutral, before = "/tmp" if os.access("/tmp", os.W_OK) else None, os.environ[_STAGING]
    with (
        folder.lock(),
        tempfile.TemporaryDirectory(prefix="steppe-", dir=neutral, ignore_cleanup_errors=True) as staging,
    ):
        os.environ[_STAGING] = staging
        try:
            settings = {"id": name, **dict.fromkeys(("name", "group", "job_type"), LEADERBOARD)}
            run = folder.begin(target, settings)
            shown = wandb.Table(columns=given["columns"], data=given["rows"])
            if target.mode == "offline":
                # `log` would turn an unbound table into an artifact.
                shown.bind_to_run(run, LEADERBOARD, 0)  # type: ignore[no-untyped-call]
            run.log({"step": 0, LEADERBOARD: shown}, step=0, commit=True)
            if target.mode == "online":
                artifact = wandb.Artifact(LEADERBOARD, LEADERBOARD)
                for file, text in given["files"].items():
                    with artifact.new_file(file, encoding="utf-8") as out:
                        out.write(text)
                run.log_artifact(artifact)
            folder.end(run, target, digest_of(path), [0])
        finally:
            os.environ[_STAGING] = before


def digest_of(path: str | Path) -> str:
    """Return the digest of a table's file, for its marker."""
    return sha256_text(Path(path).read_text(encoding="utf-8"))
