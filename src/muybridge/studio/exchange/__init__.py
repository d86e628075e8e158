"""Annotations in the files of other tools: a module a format, read and written."""
