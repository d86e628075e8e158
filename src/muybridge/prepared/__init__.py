"""Prepared data: videos transcoded once into tar shards that are read at random."""
