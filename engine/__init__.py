"""The engine: proposes merge programs, has them run and scored, learns from them and keeps the archive."""
