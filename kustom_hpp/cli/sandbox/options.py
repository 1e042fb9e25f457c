"""The options of `kustom-hpp sandbox`, checked before it listens. A mistake is a usage error that names the option."""

import re
from collections.abc import Iterable

from kustom_hpp.cli.console import CommandError, Exit
from kustom_hpp.config import ENV_VARS, Environment, from_environment, is_loopback
from kustom_hpp.config.credentials import environment_of_key
from kustom_hpp.sandbox import Latency, MerchantRateLimit, Sandbox
from kustom_hpp.sandbox.limits import Announcement
from kustom_hpp.sandbox.sandbox import check_public_url

_USERNAME = "K000000_sandbox"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+"


def address(host: str | None, *, expose: bool) -> str:
    """Return the address to listen on: loopback, unless --expose is set.

    Raises:
        CommandError: Other machines can reach the host, and --expose is not set.

    """
    if host is None:
        return "0.0.0.0" if expose else "127.0.0.1"  # noqa: S104 - the user said so
    if not expose and not is_loopback(host):
        raise _usage(
            f"Other machines can reach --host {host}. Add --expose to allow that, or omit --host to listen on loopback"
        )
    return host


def credentials(*, from_env: bool) -> tuple[str | None, str]:
    """Return the key, None for a new one, and the username.

    Raises:
        CommandError: The environment has no key, or a live key.

    """
    if not from_env:
        return None, _USERNAME
    found = from_environment()
    variable = ENV_VARS["api_key"]
    key = found.get("api_key")
    if key is None:
        raise CommandError(f"--key-from-env: {variable} is not set.", Exit.CONFIG)
    if environment_of_key(key) is Environment.LIVE:
        msg = f"--key-from-env: {variable} holds a live key. Set any other text; a sandbox needs no real key."
        raise CommandError(msg, Exit.CONFIG)
    return str(key), str(found.get("username", _USERNAME))


def rate_limit(text: str | None, announce: Announcement | None) -> MerchantRateLimit | None:
    """Return the rate limit of --rate-limit and --rate-limit-headers.

    Raises:
        CommandError: The text is not a rate limit.

    """
    if text is None:
        if announce is not None:
            raise _usage(f"--rate-limit-headers {announce} announces a rate limit. Add one, such as --rate-limit 40")
        return None
    found = re.fullmatch(rf"({_NUMBER})(?::([0-9]+))?", text, re.ASCII)
    try:
        if found is not None:
            return MerchantRateLimit(
                float(found[1]), None if found[2] is None else int(found[2]), announce or "headers"
            )
    except ValueError:
        pass
    raise _usage(f"--rate-limit {text} is not a rate above 0. Use 40 (creates a second) or 40:80 (80 of them at once)")


def public_url(text: str | None) -> str | None:
    """Return what --public-url says.

    Raises:
        CommandError: it is not a URL.

    """
    if text is None:
        return None
    try:
        return check_public_url(text)
    except ValueError as error:
        raise _usage(f"--public-url: {error}") from None


def latency(text: str | None) -> Latency | None:
    """Return the latency of --latency.

    Raises:
        CommandError: The text is not a latency.

    """
    if text is None:
        return None
    found = re.fullmatch(rf"({_NUMBER})(?:\.\.({_NUMBER}))?", text, re.ASCII)
    try:
        if found is not None:
            return Latency(found[1], found[2])
    except ValueError:
        pass
    raise _usage(f"--latency {text} is not a time in seconds. Use 0.2, or 0.1..0.5 for a random time in between")


def add_faults(sandbox: Sandbox, spelled: Iterable[str]) -> None:
    """Add the fault of each --fault.

    Raises:
        CommandError: Some texts are not faults; the message names all of them.

    """
    problems = []
    for text in spelled:
        try:
            sandbox.fault(text)
        except ValueError as error:
            problems.append(f"--fault {text}: {error.args[0]}")
    if problems:
        raise _usage("\n".join(problems), "Run 'kustom-hpp sandbox --list-faults' to see all faults.")


def _usage(problem: str, next_step: str = "Run 'kustom-hpp sandbox --help' for usage.") -> CommandError:
    return CommandError(f"{problem}{'' if problem.endswith('?') else '.'} {next_step}", Exit.USAGE)
