"""Use: a recogniser for files and folders, timelines, features."""
