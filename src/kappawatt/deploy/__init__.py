"""A service on a platform that is no plain process: AWS, and the container's entry. May know all of `serving`; may not
be known by anything but commands, and may not decide what is answered.
"""
