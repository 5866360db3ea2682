"""The command `fedagg`: a module a verb, each with `register` and `run`; frozen by tests/house/test_cli_frozen.py."""
