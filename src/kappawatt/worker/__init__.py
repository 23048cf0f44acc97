"""What happens to a poll: the loop that answers, publishes and commits, predicting row by row, forecasting from
histories, and replay of a span. May know bus, messages and models; may not know HTTP, nor which service it works
for.
"""
