"""manyscale."""
