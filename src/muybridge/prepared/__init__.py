"""Prepared data: videos transcoded once into shards that are read at random (docs/data.md)."""
