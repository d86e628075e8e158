"""The family of networks as a table, the networks themselves, what they cost."""
