"""AMD and Intel GPUs, through sysfs."""
