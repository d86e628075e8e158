"""Results as one self-contained HTML page, and as figures and tables for papers."""
