"""Networks applied to video files: a recognizer, timelines, features."""
