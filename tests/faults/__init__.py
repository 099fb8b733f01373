"""Faults of clients, drivers, engines and disks, provoked against the real program while it is scraped."""
