"""Sizes compared: models in memory over one loaded pair, scores, searches for an order, results."""
