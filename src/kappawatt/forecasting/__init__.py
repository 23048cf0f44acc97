"""A model of the future and what it may see: local time, history as it was known, gaps, quantiles, `Forecaster`, its
requests and its training. Pure but for reading artifacts; may not know the bus, HTTP, or any one series.
"""
