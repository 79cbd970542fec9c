"""Explanations: what a network attends to, what moves its score, and whether to believe either.

Everywhere the network is in evaluation mode, streams are by name and already trimmed by the network
(`MultiScaleClassifier.trim`), weights are class-balanced, (events,), and what is found of tokens is in
their order, (tokens,). Tensors are on the network's device, results on the host.
"""
