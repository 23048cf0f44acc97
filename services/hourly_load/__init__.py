"""Hourly load of a zone, forecast for the next whole day."""
