"""The configuration: strict YAML and flags, read into frozen dataclasses."""
