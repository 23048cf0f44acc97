"""Requests passed on to services: where they are, which of them answer, and what happens when one does not."""
