"""Collision events, whatever their source, in one awkward record layout."""
