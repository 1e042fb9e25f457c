"""The commands by their names, and the one place where what went wrong becomes an exit code."""

import errno
import io
import platform
import re
import sys

from cyclopts import App, CycloptsError, UnknownOptionError, UnusedCliTokensError

from kustom_hpp._version import __version__
from kustom_hpp.cli.batch.command import batch
from kustom_hpp.cli.batch.input_file import STDIN
from kustom_hpp.cli.check import check
from kustom_hpp.cli.console import CommandError, Exit, print_note, redirect_to_devnull, report_error
from kustom_hpp.cli.create import create
from kustom_hpp.cli.demo import demo
from kustom_hpp.cli.journal import build_journal_app
from kustom_hpp.cli.sandbox.command import sandbox
from kustom_hpp.cli.sessions import disable, distribute, read, wait
from kustom_hpp.errors import HPPError

_HELP = """Sessions on Kustom's Hosted Payment Page (HPP), from the command line.

Start with `kustom-hpp demo`: it needs no account and leaves this machine alone.

Credentials come from the environment, never from arguments: KUSTOM_HPP_API_KEY, or KUSTOM_HPP_USERNAME with
KUSTOM_HPP_PASSWORD. KUSTOM_HPP_ENVIRONMENT (live or playground) or KUSTOM_HPP_BASE_URL say where to call; without them
the key's prefix does. KUSTOM_HPP_INSECURE_HTTP and KUSTOM_HPP_APP_INFO are the rest. `kustom-hpp check` shows what came
of them.
"""

_FULL = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
"""How stdout fails."""

_EXIT_CODES = """Exit codes: 0 all well, 1 something failed, 2 usage or bad input, 3 configuration or authentication,
4 an outcome is unknown (of create and batch, the session may exist: make a new order, do not repeat; of distribute, the
message may have been sent), 130 interrupted.
"""


def build_app() -> App:
    """The application; made for each run, so that nothing is remembered between two."""
    app = App(
        name="kustom-hpp",
        help=_HELP,
        help_epilogue=_EXIT_CODES,
        version=f"kustom-hpp {__version__} (Python {platform.python_version()})",
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
    )
    app.command(demo, sort_key=1)
    app.command(create, sort_key=2)
    app.command(batch, sort_key=3)
    app.command(build_journal_app())
    app.command(read, sort_key=5)
    app.command(wait, sort_key=6)
    app.command(disable, sort_key=7)
    app.command(distribute, sort_key=8)
    app.command(check, sort_key=9)
    app.command(sandbox, sort_key=10)
    return app


def _usage(error: CycloptsError) -> str:
    """What is wrong with the arguments, without those values that may be a secret in the wrong place."""
    text = str(error).rstrip(".")
    if isinstance(error, UnusedCliTokensError):
        text = f"{len(error.unused_tokens or ())} argument(s) too many"
    if isinstance(error, UnknownOptionError):
        text = re.sub(r"=[^ ]*", "=…", text)
        if re.search("key|password|secret", text):
            text += ". Secrets are never arguments: set KUSTOM_HPP_API_KEY, or KUSTOM_HPP_PASSWORD with a username"
    command = " ".join(["kustom-hpp", *(error.command_chain or ())])
    return f"{text}{'' if text.endswith('?') else '.'} '{command} --help' tells how to use it."


def run(arguments: list[str]) -> int:
    """Run one command; its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a narrow encoding has no character for is shown by its number: better than half a table and a traceback.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # cyclopts takes a lone "-" for an option, or with `allow_leading_hyphen` every mistyped option for a file.
        words = [STDIN if argument == "-" else argument for argument in arguments]
        return build_app()(words) or Exit.OK  # --help and --version return None
    except CycloptsError as error:
        print_note("error", _usage(error), "bold red")
        return Exit.USAGE
    except HPPError as error:
        return report_error(error)
    except CommandError as error:
        print_note("error", error.message, "bold red")
        return error.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as error:
        if error.errno not in _FULL or error.filename is not None:
            raise
        redirect_to_devnull(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # else whoever read us has read enough
            print_note("error", f"stdout did not take the result ({error.strerror}).", "bold red")
        return Exit.FAILED
