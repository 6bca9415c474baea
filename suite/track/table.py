"""A leaderboard on W&B: a table and an artifact, in a run of job type leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from suite.files import read_json
from suite.spec import sha256_text
from suite.track.mirror import finished, init
from suite.track.mode import Target
from suite.track.state import MirrorFolder

LEADERBOARD = "leaderboard"


def run_id(digest: str) -> str:
    """Name the run of a leaderboard: another one for other content."""
    return f"{LEADERBOARD}-{digest[:16]}"


def publish(store_root: Path, name: str, path: str, target: Target) -> None:
    """Write the table of the JSON file `path`: {"columns", "rows", "files": {name: text}}."""
    import wandb

    given = read_json(Path(path), "call `steppe wandb sync` again")
    folder = MirrorFolder(store_root, name)
    with folder.lock():
        settings: dict[str, Any] = {
            "id": name,
            "name": LEADERBOARD,
            "group": LEADERBOARD,
            "job_type": LEADERBOARD,
        }
        run = init(folder, target, settings)
        run.log(
            {"step": 0, LEADERBOARD: wandb.Table(columns=given["columns"], data=given["rows"])},
            step=0,
            commit=True,
        )
        artifact = wandb.Artifact(LEADERBOARD, LEADERBOARD)
        for file, text in given["files"].items():
            with artifact.new_file(file, encoding="utf-8") as out:
                out.write(text)
        run.log_artifact(artifact)
        run.finish(0)
        finished(run, folder, target, digest_of(path), [0])


def digest_of(path: str | Path) -> str:
    """Digest of a table's file, for its marker."""
    return sha256_text(Path(path).read_text(encoding="utf-8"))
