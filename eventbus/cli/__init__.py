"""The command line, a room per family of commands."""
