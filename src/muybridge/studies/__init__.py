"""The paper: its printed numbers, and runs that rebuild its tables."""
