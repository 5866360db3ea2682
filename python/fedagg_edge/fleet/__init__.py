"""Nodes as processes on a network: the shells of I/O around the wire, the ledger and the node."""
