"""How every command ends: results on stdout, a user's error as one message, a stop as 130."""

import sys
from collections.abc import Callable

from vmae.errors import Interrupted, VmaeError


def exit_with_message(command: Callable[[], object]) -> None:
    """Call `command`; print a VmaeError, or a file that cannot be used, as one line and exit with 2, a stop with 130."""
    try:
        command()
    except Interrupted as stop:
        print(f"stopped: {stop}; the same command resumes", file=sys.stderr)
        sys.exit(130)
    except VmaeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)  # a folder for a file, no permission, a full disk
        sys.exit(2)
