"""Bringing a service to a platform: its model as an archive, the calls that make an endpoint, the container's entry."""
