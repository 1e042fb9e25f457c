"""The environment of a child that writes no files but its own: neither coverage's nor compiled modules.

Both would be written on a disk that is made to fail, and a module that was cut short there stays so for everybody.
"""

import os


def unmeasured() -> dict[str, str]:
    """This process's environment, without what makes coverage begin in a child, or makes it keep what it compiles."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return bare | {"PYTHONDONTWRITEBYTECODE": "1"}
