"""How every command ends: results on stdout, a user's error as one message, a stop as 130."""

import sys
from collections.abc import Callable

from vmae.errors import Interrupted, VmaeError


def exit_with_message(command: Callable[[], object]) -> None:
    """Call `command`; print a VmaeError as one line and exit with 2, a stop with 130."""
    try:
        command()
    except Interrupted as stop:
        print(f"stopped: {stop}; the same command resumes", file=sys.stderr)
        sys.exit(130)
    except VmaeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
