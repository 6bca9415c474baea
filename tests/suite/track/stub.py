"""A W&B server for the tests, on loopback: enough of its protocol for what we ask of wandb 0.31.

What a real server does beyond that may differ. Its `mode` makes it hang, fail or refuse every key.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

KEY = "0123456789abcdef" * 2 + "01234567"
MODES = ("fine", "hangs", "fails", "refuses")


@dataclass
class StubRun:
    """What the server holds of one run."""

    fields: dict[str, Any] = field(default_factory=dict)
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By line number, as file_stream counts them."""
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    starts: int = 0

    @property
    def config(self) -> dict[str, Any]:
        return {
            key: cell["value"] for key, cell in json.loads(self.fields["config"]).items() if key != "_wandb"
        }

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [self.history[number] for number in sorted(self.history)]


class Stub(ThreadingHTTPServer):
    """Use as a context manager; `url` is its address."""

    daemon_threads = True

    def __init__(self, mode: str = "fine") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.mode = mode
        self.runs: dict[str, StubRun] = defaultdict(StubRun)
        self.uploads: dict[str, bytes] = {}
        self.artifacts: list[dict[str, Any]] = []
        self.committed: list[str] = []
        self.operations: list[str] = []
        self.unknown: list[str] = []
        self.released = threading.Event()
        """Set at the end, so that hanging answers do not outlive the test."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def __enter__(self) -> Stub:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self.shutdown()
        self.server_close()


def answer(stub: Stub, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a GraphQL answer."""
    project = {"id": "P", "name": asked.get("project"), "entity": {"id": "E", "name": "tester"}}
    if operation == "Viewer":
        viewer = {"id": "V", "entity": "tester", "username": "tester", "email": None, "flags": "{}"}
        return {"viewer": viewer | {"teams": {"edges": []}}}
    if operation == "ServerFeaturesQuery":
        return {"serverInfo": {"features": []}}
    if operation == "UpsertBucket":
        run = stub.runs[asked["name"]]
        fresh, run.starts = run.starts == 0, run.starts + 1
        run.fields.update({key: value for key, value in asked.items() if value is not None})
        bucket = {"id": asked["name"], "name": asked["name"], "displayName": asked.get("displayName"),
                  "sweepName": None, "historyLineCount": len(run.history), "project": project,
                  "config": asked.get("config")}  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": fresh}}
    if operation == "RunResumeStatus":
        return {"model": {**project, "bucket": _resume(stub, asked["name"])}}
    if operation == "CreateRunFiles":
        files = [
            {"name": name, "uploadUrl": f"{stub.url}/upload/{asked['run']}/{name}"} for name in asked["files"]
        ]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}
    return _artifact(stub, operation, asked)


def _resume(stub: Stub, name: str) -> dict[str, Any] | None:
    run = stub.runs[name]
    if not run.starts:
        return None
    tail = json.dumps([json.dumps(row) for row in run.rows[-1:]])
    return {"id": name, "name": name, "summaryMetrics": json.dumps(run.summary), "displayName": name,
            "logLineCount": 0, "historyLineCount": len(run.history), "eventsLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]", "config": run.fields["config"], "tags": [], "notes": None,
            "wandbConfig": json.dumps({"t": 1})}  # fmt: skip


def _artifact(stub: Stub, operation: str, asked: dict[str, Any]) -> dict[str, Any]:
    given = asked.get("input", asked)
    if operation == "ArtifactType":
        return {"project": {"artifact": None}}
    if operation == "XXHashDigestsEnabled":
        return {"entity": {"xxhashDigestsEnabled": False}}
    if operation == "FetchArtifactDigestAlgorithm":
        return {"project": None}
    if operation == "CreateArtifact":
        stub.artifacts.append(given)
        made = {
            "id": f"A{len(stub.artifacts)}",
            "state": "PENDING",
            "artifactSequence": {"latestArtifact": None},
        }
        return {"createArtifact": {"artifact": made}}
    if operation in ("CreateArtifactManifest", "UpdateArtifactManifest"):
        key = operation[0].lower() + operation[1:]
        file = {
            "id": "F",
            "uploadUrl": f"{stub.url}/upload/manifest/{len(stub.uploads)}",
            "uploadHeaders": [],
        }
        return {key: {"artifactManifest": {"id": "M", "file": file}}}
    if operation == "CreateArtifactFiles":
        nodes = [
            {
                "storagePath": f"s/{file['name']}",
                "uploadUrl": f"{stub.url}/upload/artifact/{file['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for file in given["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
    if operation == "CommitArtifact":
        stub.committed.append(given["artifactID"])
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "d"}}}
    stub.unknown.append(operation)
    return {}


class _Handler(BaseHTTPRequestHandler):
    server: Stub
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """Serve a connection; the other end may be killed at any time."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._serve(b"")

    def do_PUT(self) -> None:
        self._serve(self._body())

    do_POST = do_PUT  # noqa: N815 - the names are http.server's

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _serve(self, body: bytes) -> None:
        mode = self.server.mode
        if mode == "hangs":
            self.server.released.wait()
            self.close_connection = True
            return
        if mode == "fails":
            self._reply({"errors": [{"message": "out of order"}]}, 500)
        elif mode == "refuses" or (self.path == "/graphql" and not self._authorized()):
            self._reply({"errors": [{"message": "invalid key"}]}, 401)
        elif self.path == "/graphql":
            asked = json.loads(body)
            operation = asked.get("operationName") or asked["query"].split("(")[0].split()[1]
            self.server.operations.append(operation)
            self._reply({"data": answer(self.server, operation, asked.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            self._stream(self.path.split("/")[-2], json.loads(body))
            self._reply({})
        elif self.path.startswith("/upload/"):
            self.server.uploads[unquote(self.path.removeprefix("/upload/"))] = body
            self._reply({})
        else:
            self.server.unknown.append(self.path)
            self._reply({}, 404)

    def _authorized(self) -> bool:
        expected = base64.b64encode(f"api:{KEY}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _stream(self, name: str, content: dict[str, Any]) -> None:
        run = self.server.runs[name]
        for file, chunk in (content.get("files") or {}).items():
            if file == "wandb-history.jsonl":
                for number, line in enumerate(chunk["content"], chunk["offset"]):
                    run.history[number] = json.loads(line)
            elif file == "wandb-summary.json":
                run.summary = json.loads(chunk["content"][-1])
        if content.get("complete"):
            run.exit_code = content.get("exitcode")

    def _reply(self, content: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextlib.contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A stub that wandb finds by the environment."""
    with Stub() as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


def forget_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key and no settings file of the user who runs the tests."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(folder / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(folder / "wandb-config"))
