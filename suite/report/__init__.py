"""Reports from records: leaderboards as text, tables for papers, charts and pages."""
