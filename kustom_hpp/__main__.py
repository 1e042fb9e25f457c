"""`python -m kustom_hpp` is `kustom-hpp`."""

import sys

from kustom_hpp.cli import main

if __name__ == "__main__":
    sys.exit(main())
