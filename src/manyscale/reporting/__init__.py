"""Plots, the flow chart and the report."""
