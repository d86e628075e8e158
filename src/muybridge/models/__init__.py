"""The family of networks as a table, the networks, and their cost."""
