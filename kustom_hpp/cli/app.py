"""The commands, and what becomes of an exception. `console.exit_code` has the exit codes of errors."""

import errno
import io
import platform
import re
import sys
from collections.abc import Iterable

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnknownOptionError, UnusedCliTokensError

from kustom_hpp._version import __version__
from kustom_hpp.cli.console import STDIN, CommandError, Exit, print_note, redirect_to_devnull, report_error
from kustom_hpp.errors import HPPError

_HELP = """Create and manage sessions on Kustom's Hosted Payment Page (HPP).

Start with `kustom-hpp demo`: it needs no account and no network.

Keys and passwords come from the environment only: set KUSTOM_HPP_API_KEY, or KUSTOM_HPP_USERNAME and
KUSTOM_HPP_PASSWORD. KUSTOM_HPP_ENVIRONMENT (live or playground) or KUSTOM_HPP_BASE_URL selects the API; otherwise the
key's prefix selects it. KUSTOM_HPP_INSECURE_HTTP=1 allows http with a test key to hosts other than this machine.
KUSTOM_HPP_PROXY is a proxy's URL (else HTTPS_PROXY and NO_PROXY hold), KUSTOM_HPP_APP_INFO extends the User-Agent.
`kustom-hpp check` shows which settings are in use.
"""

_EXIT_CODES = """Exit codes: 0 success, 1 failure, 2 usage or invalid input, 3 configuration or authentication, 4 outcome
unknown (the session may exist, or the message may have been sent: do not repeat create or distribute; a batch may be run
again, its journal prevents a second request), 130 interrupted.
"""

COMMANDS = (
    ("demo", "demo:demo", "Create sessions for example orders at a local sandbox that this command starts."),
    ("create", "create:create", "Create one session from a JSON request."),
    ("batch", "batch.command:batch", "Create one session for each row of a file."),
    ("journal", "", "Inspect a batch's journal, and record how rows in doubt ended."),
    ("journal init", "journal:init", "Create the tables of a ledger in PostgreSQL if there are none."),
    ("journal show", "journal:show", "Count the rows of each state and list the rows in doubt."),
    ("journal report", "journal:report", "Summarize a journal, as tables or as an HTML file."),
    ("journal export", "journal:export", "Write every row to stdout, in the format of 'batch --output'."),
    ("journal resolve", "journal:resolve", "Record the result of a row in doubt."),
    ("journal prune", "journal:prune", "Shorten old rows of a ledger in PostgreSQL."),
    ("fleet", "", "Create sessions with workers on many machines."),
    ("fleet init", "fleet:init", "Create the tables of the ledger and of the queue if there are none."),
    ("fleet enqueue", "fleet:enqueue", "Put ids into a merchant's queue."),
    ("fleet work", "fleet:work", "Create the sessions of the queued ids until SIGTERM or Ctrl-C."),
    ("fleet status", "fleet:status", "Show the jobs of each merchant, and the rows in the ledger."),
    ("read", "sessions:read", "Read a session."),
    ("wait", "sessions:wait", "Wait until a session has a final status."),
    ("disable", "sessions:disable", "Disable a session permanently."),
    ("distribute", "sessions:distribute", "Send a session's link to the consumer."),
    ("check", "check:check", "Show versions and settings, and report what is wrong."),
    ("sandbox", "sandbox.command:sandbox", "Run a local HPP server until Ctrl-C."),
)
"""Every command in the order of `--help`: its name, the function below `kustom_hpp.cli`, the function's first line.

A command without a function holds the commands whose names begin with its own.
"""

_STDOUT_FAILURES = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def build_app(words: Iterable[str] = ()) -> App:
    """Return the application. It imports a command's module only to run the command or to show its own help.

    Args:
        words: The command line. A command that is named in it shows its docstring as help, the others their first line.

    """
    app = App(
        name="kustom-hpp",
        help=_HELP,
        help_epilogue=_EXIT_CODES,
        default_parameter=Parameter(negative=""),
        version=f"kustom-hpp {__version__} (Python {platform.python_version()})",
        print_error=False,
        exit_on_error=False,
        result_action="return_value",
    )
    groups = {"": app}
    words = set(words)
    for position, (path, function, summary) in enumerate(COMMANDS):
        group, _, name = path.rpartition(" ")
        if not function:
            groups[name] = App(name=name, help=summary, help_epilogue="", sort_key=position)
            app.command(groups[name])
        else:
            help_text = None if name in words else summary
            groups[group].command(
                f"kustom_hpp.cli.{function}", name=name, help=help_text, help_epilogue="", sort_key=position
            )
    return app


def _usage_text(error: CycloptsError) -> str:
    """Return what is wrong with the arguments, without the values that may be a secret."""
    text = str(error).partition(" Available commands:")[0].rstrip(".")
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        need = "is required" if error.keyword is None else "needs a value"
        text = f"{error.argument.name} {need}{text.partition(' argument')[2]}"
    if isinstance(error, UnusedCliTokensError):
        text = f"{len(error.unused_tokens or ())} argument(s) too many"
    if isinstance(error, UnknownOptionError):
        text = re.sub(r"=[^ ]*", "=…", text)
        if re.search("key|password|secret", text):
            text += ". Secrets are never arguments: set KUSTOM_HPP_API_KEY, or KUSTOM_HPP_PASSWORD with a username"
    command = " ".join(["kustom-hpp", *(error.command_chain or ())])
    return f"{text}{'' if text.endswith('?') else '.'} Run '{command} --help' for usage."


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A character that the terminal's encoding lacks appears as its number instead of ending the command.
        sys.stdout.reconfigure(errors="backslashreplace")
    # cyclopts reads a lone "-" as an option; with `allow_leading_hyphen` it would read a mistyped option as a file.
    words = [STDIN if argument == "-" else argument for argument in arguments]
    try:
        return build_app(words)(words) or Exit.OK  # --help and --version return None
    except CycloptsError as error:
        print_note("error", _usage_text(error), "bold red")
        return Exit.USAGE
    except HPPError as error:
        return report_error(error)
    except CommandError as error:
        print_note("error", error.message, "bold red")
        return error.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as error:
        if error.errno not in _STDOUT_FAILURES or error.filename is not None:
            raise
        redirect_to_devnull(sys.stdout)
        if not isinstance(error, BrokenPipeError):  # a reader that closed the pipe has all that it wants
            print_note("error", f"stdout did not accept the result ({error.strerror}).", "bold red")
        return Exit.FAILED
