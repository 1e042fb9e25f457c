"""The environment of a child that coverage must not measure: it would open a database and write files of its own."""

import os


def unmeasured() -> dict[str, str]:
    """This process's environment, without what makes coverage begin in a child."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV")}
