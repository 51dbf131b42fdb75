"""Compiled updates, and updates of several runs as one (vmap)."""
