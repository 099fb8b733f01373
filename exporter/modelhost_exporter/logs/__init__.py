"""Log output: formats, the queue in front of standard error, rate limits and redaction."""
