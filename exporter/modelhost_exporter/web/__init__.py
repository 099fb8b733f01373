"""The web port: routes, request checks, and limits on connections."""
