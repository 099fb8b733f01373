"""The exporter's own process: memory, file descriptors, threads, signals and systemd."""
