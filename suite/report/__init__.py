"""Reports made from records: leaderboards as Markdown and CSV."""
