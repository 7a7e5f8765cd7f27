"""What runs inside of a library's own suite, with the library there: plugins of pytest that put ours in its place."""
