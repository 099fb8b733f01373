"""The transparent proxy: forwards bytes, lets a reader of the dialect watch, records once."""
