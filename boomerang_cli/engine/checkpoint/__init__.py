"""A model as files, opened from headers, on this disk or on the Hub."""
