"""Nodes as processes on a network: docs/fleet.md has the map."""
