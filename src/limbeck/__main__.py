"""``python -m limbeck``."""

import sys

from limbeck.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
