"""``modelhost-exporter service``: start the exporter at boot, by systemd, launchd or Windows."""
