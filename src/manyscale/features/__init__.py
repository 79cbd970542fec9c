"""From measured columns to what the network sees."""
