"""The protocol between a child and its parent: no socket, no file, no clock."""
