"""The core: nothing here prints; progress is a callback."""
