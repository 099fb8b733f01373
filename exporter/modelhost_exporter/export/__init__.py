"""``modelhost-exporter export``: dashboards, rules and settings for other programs, from the package."""
