"""A model of the present and the folder it comes from: `Predictor`, artifacts and their arrays, ONNX, limits of
training, scores, and where artifacts are fetched from. May read and write files; may not know the bus, HTTP, or the
time of day.
"""
