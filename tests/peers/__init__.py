"""Other libraries' own suites over eventbus: fetched, run with ours in the place of theirs, and told of on a page."""
