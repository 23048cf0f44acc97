"""The sink: what passes on the bus into a database that people query."""
