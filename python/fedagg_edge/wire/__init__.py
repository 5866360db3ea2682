"""The wire between a child and its parent, without sockets, files or clocks; docs/protocol.md is its specification.

Each end is a value that turns requests into responses and back; fleet/ moves the bytes and ledger/ keeps the state.
"""
