"""The exporter under load and faults for a long time: what grows, what stalls, and what is answered late."""
