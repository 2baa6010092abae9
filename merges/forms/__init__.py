"""Streamed forms of the library's merges, by what they need to know of a tensor (`merges.streamed` has the table)."""
