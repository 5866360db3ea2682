"""Whole trees in one process, for research: the same nodes and programs as the fleet, driven in Algorithm 2's order."""
