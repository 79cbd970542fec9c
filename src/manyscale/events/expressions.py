"""Simple expressions of branches, as a card holds them: parsed, never run as code."""
