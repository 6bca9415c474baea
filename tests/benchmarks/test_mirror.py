"""What the W&B mirror costs a sweep, measured in the calls. The promise is less than 1 % of an epoch.

    pytest tests/benchmarks/test_mirror.py --benchmark-enable -n0

The processes that train make no call. The pool's makes one an event: two of them write a line into a pipe, of
a run that started and of one that ended; the others, `progress`, return at once. An epoch of
cifar10-resnet8-5k takes about 5 s on a core, so that its share is 50 ms; all the calls of a run of one epoch
must fit into it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from suite.track.content import Labels
from suite.track.launch import Mirror
from suite.track.mode import Target

SHARE_S = 0.01 * 5.0
RUN = "0123456789abcdef"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror with names as long as they get, whose sidecar reads and does nothing."""

    reader = tmp_path / "reader"
    reader.write_text("#!/bin/sh\ncat > /dev/null\n")
    reader.chmod(0o700)
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", str(reader))
        made = Mirror(tmp_path, Target("offline", "https://api.wandb.ai"), {RUN: Labels(*["✨" * 300] * 3)})
    yield made
    assert not made.close(60.0).startswith("W&B: its sidecar")


def timed(benchmark: BenchmarkFixture, name: str, call: Callable[[], None]) -> None:
    benchmark.name = name
    benchmark.pedantic(call, rounds=2000, warmup_rounds=10)
    if benchmark.stats is None:  # benchmarks are disabled
        return
    times = sorted(benchmark.stats.stats.data)
    median, p99 = statistics.median(times), times[int(0.99 * len(times))]
    benchmark.extra_info["p99_us"] = 1e6 * p99
    print(f"{name}: median {1e6 * median:.1f} us, p99 {1e6 * p99:.1f} us of {1e6 * SHARE_S:.0f}")
    assert 3 * p99 < SHARE_S  # started, ended and a progress event, each at its worst


@pytest.mark.parametrize("event", ["started", "ended", "progress"])
def test_an_event(benchmark: BenchmarkFixture, mirror: Mirror, event: str) -> None:
    timed(benchmark, f"mirror, {event}", lambda: mirror({"event": event, "run_id": RUN}))
    assert mirror._sent == (set() if event == "progress" else {RUN})
