"""Who may connect to a listener: TLS, authentication and rate limits, for the web port and the proxy alike.

Nothing here depends on an HTTP server: a listener describes each request as ``Credentials`` and sends the ``Refusal``.
"""
