"""``python -m exporter``: the same as the console script ``modelhost-exporter``."""

import sys

from exporter.cli import main

if __name__ == "__main__":
    sys.exit(main())
