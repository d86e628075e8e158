"""The sections that pages share."""
