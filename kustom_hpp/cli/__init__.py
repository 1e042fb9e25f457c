"""The command line: arguments in, exit code out. `kustom-hpp --help` tells the rest."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: the console script `kustom-hpp`.

    Args:
        arguments: what follows the program's name; None takes them from `sys.argv`.

    Returns:
        The exit code: 0 all well, 1 something failed, 2 usage or bad input, 3 configuration or authentication, 4 an
        outcome is unknown, 130 interrupted.

    """
    try:
        # Not before it is known that somebody wants it: the command line is an extra, and its libraries may be absent.
        from kustom_hpp.cli.app import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "kustom_hpp":
            raise
        sys.stderr.write(
            f"kustom-hpp needs {missing}, which is not installed: run pip install 'kustom_hpp[cli]' and try again.\n"
        )
        return 3
    except KeyboardInterrupt:
        return 130
    return run(sys.argv[1:] if arguments is None else list(arguments))
