"""``python -m modelhost_exporter``: the same as the console script ``modelhost-exporter``."""

import sys

from modelhost_exporter.cli import main

if __name__ == "__main__":
    sys.exit(main())
