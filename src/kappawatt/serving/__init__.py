"""HTTP: one app factory, and adapters that only say where rows come from and where answers go."""
