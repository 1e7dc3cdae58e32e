"""A model to be written: planned, moved, and standing there at once."""
