"""Rows as columns: fields with unit and range, a batch of checked rows, and the readers and writers of JSON, CSV and
Arrow. May know numpy, parsers of bytes and `errors`; may not know what any column means, nor a model, a bus or a
door.
"""
