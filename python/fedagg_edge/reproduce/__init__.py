"""The paper's tables again: which simulations a table has, running them, and the report beside the paper's figures."""
