"""Run the collectors of a scrape: deadlines, what became of each, and the page."""
