"""The pages of a site: the tables of one stratum make one page, which lists its runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from suite.report.leaderboard import Table
from suite.spec import canonical_json, sha256_text

_LONGEST = 60


@dataclass(frozen=True)
class Group:
    """Every view and budget of one task on one data set under the same conditions."""

    slug: str
    tables: tuple[Table, ...]

    @property
    def table(self) -> Table:
        """The first of the tables, for what they share."""
        return self.tables[0]

    @property
    def title(self) -> str:
        """Task and data set."""
        return f"{self.table.task} on {self.table.data}"

    @property
    def page(self) -> str:
        """Path of its page from the site's root."""
        return f"tasks/{self.slug}.html"

    def runs(self) -> dict[str, list[str]]:
        """By entry, the ids of its runs in any of the tables, by table and seed."""
        found: dict[str, dict[str, None]] = {}
        for table in self.tables:
            for row in table.rows:
                found.setdefault(row.entry, {}).update(dict.fromkeys(row.runs))
        return {name: list(ids) for name, ids in sorted(found.items())}


def groups(tables: Iterable[Table]) -> list[Group]:
    """Gather tables into pages, in the order of the leaderboard; its name depends on its stratum only."""
    by_key: dict[str, list[Table]] = {}
    for table in tables:
        shared = (table.task, table.data, table.protocol, table.precision, table.device, table.compiled)
        by_key.setdefault(canonical_json(shared), []).append(table)
    return [Group(_slug(some[0].task, key), tuple(some)) for key, some in by_key.items()]


def pages_of_runs(found: Iterable[Group]) -> Mapping[str, tuple[Group, str]]:
    """By run id, the page that shows it and its optimizer's label there."""
    return {
        run_id: (group, optimizer)
        for group in found
        for optimizer, run_ids in group.runs().items()
        for run_id in run_ids
    }


def _slug(title: str, key: str) -> str:
    words = re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")[:_LONGEST].strip("-")
    return f"{words}-{sha256_text(key)[:6]}".lstrip("-")
