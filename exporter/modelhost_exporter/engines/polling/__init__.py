"""Asking model servers on a clock of our own: a scrape reads what was heard last."""
