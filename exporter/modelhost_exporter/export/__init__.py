"""``modelhost-exporter export``: dashboards, rules and settings for the programs around the exporter, from the package."""
