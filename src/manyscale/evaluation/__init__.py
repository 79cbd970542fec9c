"""The boosted trees beside the network, yields, comparisons."""
