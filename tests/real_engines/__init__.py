"""Tests against real engines: ``pytest -m engines``, see CONTRIBUTING.md."""
