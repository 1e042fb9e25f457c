"""The command line: arguments in, exit code out. See `kustom-hpp --help`."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: the console script `kustom-hpp`.

    Args:
        arguments: The words after the program's name; None reads them from `sys.argv`.

    """
    try:
        # Imported here because the command line is an extra: its libraries may be absent.
        from kustom_hpp.cli.app import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "kustom_hpp":
            raise
        sys.stderr.write(f"kustom-hpp needs {missing}, which is not installed. Run pip install 'kustom_hpp[cli]'.\n")
        return 3
    except KeyboardInterrupt:
        return 130
    return run(sys.argv[1:] if arguments is None else list(arguments))
