"""The door to the command line, which an install without the extra may lack."""

from __future__ import annotations

import sys

CANCELED = 130  # what a shell says of a command that Ctrl-C ended


def main() -> int:
    """Runs the command that the arguments name.

    Returns:
        The exit code: 0; 1 for an error, 2 for wrong usage; as a shell says it, 130 after Ctrl-C and 141 after the
        reader of the output went away.
    """
    try:
        from eventbus.cli import app

        return app.run(sys.argv[1:])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print("eventbus: the command line needs its extra: pip install 'eventbus[cli]'", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return CANCELED


if __name__ == "__main__":
    sys.exit(main())
