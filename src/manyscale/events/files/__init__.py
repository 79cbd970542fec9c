"""Files of events of others: recognised, read, and brought to the records of all events."""
