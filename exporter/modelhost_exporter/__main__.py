"""The console script ``modelhost-exporter``, also as ``python -m modelhost_exporter``."""

import sys

from modelhost_exporter import healthcheck


def main() -> int:
    """Run the program, or a health check, which runs often and does not import the program; return the exit code."""
    if sys.argv[1:2] == [healthcheck.COMMAND]:
        return healthcheck.main(sys.argv[2:])
    from modelhost_exporter import cli  # noqa: PLC0415 - imports everything

    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
