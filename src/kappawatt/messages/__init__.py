"""How a document looks on the bus: readings, predictions, forecasts, dead letters, trace headers; to bytes and back.
May know columns, topics and headers; may not poll, publish, or decide what is answered.
"""
