"""Scenarios of a pool: workers and readers as processes, a source that is limited and counts."""
