"""Configurations: presets, composition, validation, and the objects that they describe."""
