"""The multi-scale network: packed inputs to scores, in plain torch."""
