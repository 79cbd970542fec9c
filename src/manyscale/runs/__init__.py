"""The parts joined into what a user does: generate, train, evaluate, predict, report."""
