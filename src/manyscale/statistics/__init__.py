"""Numbers from labels, scores and weights, in numpy."""
