"""What commands do that is more than a call: reading files, progress, printing."""
