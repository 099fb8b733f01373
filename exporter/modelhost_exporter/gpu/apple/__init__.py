"""The GPUs of Macs, as IOKit's registry reports them to everybody, without root."""
