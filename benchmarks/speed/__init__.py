"""Speed measured by scripts, with what one would do otherwise in the same run; never by timed tests."""
