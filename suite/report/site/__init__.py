"""A leaderboard as a static site that opens from disk, without server or network."""

from suite.report.site.build import write
from suite.report.site.run_pages import Material

__all__ = ["Material", "write"]
