"""Bodies that claim to become more than they are: made by code, so that each says what it stands for."""
