"""A service on a platform that is no plain process: AWS, and the container's entry. May know all of `serving`; nothing
but commands may know it.
"""
