"""The pages of a site: one page per stratum, with its tables and runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from suite.report import text
from suite.report.leaderboard import Table
from suite.spec import canonical_json, sha256_text
from suite.terminal.table import plural

_LONGEST = 60
_MACHINE = 48
"""Characters of a fingerprint in a heading."""


@dataclass(frozen=True)
class Group:
    """The tables of one stratum: all views and budgets of one task on one data set."""

    slug: str
    tables: tuple[Table, ...]
    unlike: str = ""
    """The conditions that distinguish it from other groups of its task and data set: ", bf16"."""

    @property
    def table(self) -> Table:
        """The first table, for the conditions that all share."""
        return self.tables[0]

    @property
    def title(self) -> str:
        """Task, data set and distinguishing conditions."""
        return f"{_title(self.table)}{self.unlike}"

    @property
    def headings(self) -> tuple[str, ...]:
        """The heading of each table: view and budget, and for equal seconds their number and the machine."""
        machines = _short({name for table in self.tables if (name := _machine(table))})
        return tuple(_heading(table, machines) for table in self.tables)

    @property
    def page(self) -> str:
        """Path of its page relative to the site's root."""
        return f"tasks/{self.slug}.html"

    def runs(self) -> dict[str, list[str]]:
        """Return the ids of the runs in any of the tables by entry, ordered by table and seed."""
        found: dict[str, dict[str, None]] = {}
        for table in self.tables:
            for row in table.rows:
                found.setdefault(row.entry, {}).update(dict.fromkeys(row.runs))
        return {name: list(found[name]) for name in text.by_name(found)}


def groups(tables: Iterable[Table]) -> list[Group]:
    """Group tables into pages, in the order of the leaderboard; slugs depend on the stratum only."""
    by_key: dict[str, list[Table]] = {}
    for table in tables:
        shared = [table.task, table.data, table.protocol, table.engine, table.precision, table.device]
        shared += [table.compiled, table.ranks]
        by_key.setdefault(canonical_json(shared), []).append(table)
    unlike = _unlike([some[0] for some in by_key.values()])
    return [
        Group(_slug(some[0].task, key), tuple(some), tail)
        for (key, some), tail in zip(by_key.items(), unlike, strict=True)
    ]


def _title(table: Table) -> str:
    return f"{table.task} on {table.data}"


def _heading(table: Table, machines: Mapping[str, str]) -> str:
    head = table.heading[:1].upper() + table.heading[1:]
    if table.seconds is not None:
        head += f": {table.seconds:.3g} s"
    return f"{head} on {machines[_machine(table)]}" if _machine(table) else head


def _short(machines: set[str]) -> dict[str, str]:
    """Shorten fingerprints to the machine, or to a part that distinguishes them."""
    first = {name: name.partition(",")[0] for name in sorted(machines)}
    if len(set(first.values())) == len(first):
        shown = text.distinct(first.values(), _MACHINE)
        return {name: shown[machine] for name, machine in first.items()}
    return text.distinct(first, _MACHINE)


def _machine(table: Table) -> str:
    return table.fingerprints[0] if table.seconds is not None and table.fingerprints else ""


def _unlike(tables: Sequence[Table]) -> list[str]:
    """Return, for each table, the conditions that distinguish it from others with its title: ", bf16"."""
    alike: dict[str, list[tuple[str, ...]]] = {}
    for table in tables:
        alike.setdefault(_title(table), []).append(_conditions(table))
    tails = []
    for table in tables:
        columns = zip(_conditions(table), *alike[_title(table)], strict=True)
        tails.append("".join(f", {mine}" for mine, *all_ in columns if len(set(all_)) > 1))
    return tails


def _conditions(table: Table) -> tuple[str, ...]:
    compiled = "compiled" if table.compiled else "not compiled"
    ranks = f"{table.ranks} {plural(table.ranks, 'rank')}"
    return table.precision, table.device, compiled, ranks, table.protocol, f"engine {table.engine}"


def pages_of_runs(found: Iterable[Group]) -> Mapping[str, tuple[Group, str]]:
    """Return, by run id, the page of the run and its optimizer's label there."""
    return {
        run_id: (group, optimizer)
        for group in found
        for optimizer, run_ids in group.runs().items()
        for run_id in run_ids
    }


def _slug(title: str, key: str) -> str:
    words = re.sub("[^a-z0-9]+", "-", title.lower()).strip("-")[:_LONGEST].strip("-")
    return f"{words}-{sha256_text(key)[:6]}".lstrip("-")
