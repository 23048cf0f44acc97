"""A service as a process that answers: the record `Service`, its kinds, the app factory, probes and OpenAPI. Protocols
stand in `doors`, what touches gunicorn's inside in `server`. May know all below; may not know a platform or a
command.
"""
