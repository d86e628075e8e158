"""Prediction on video files: classes, timelines, features."""
