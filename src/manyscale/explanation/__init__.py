"""What the network looks at, and what it would lose without."""
