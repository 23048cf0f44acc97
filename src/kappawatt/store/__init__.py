"""Tables and where their rows go, DuckDB or PostgreSQL, behind one interface. May know SQL; may not know which tables
a stream has, nor where rows come from.
"""
