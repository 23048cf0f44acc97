"""What passes on the bus, kept for those who look: one follower reads it, views keep the newest, one hub hands it on."""
