"""Poll engines on the exporter's own clock: a scrape reads the last result."""
