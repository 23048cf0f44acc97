"""Messages that cross a service border, one module a domain."""
