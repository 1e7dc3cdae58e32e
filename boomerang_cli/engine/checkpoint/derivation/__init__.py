"""A family derived from ``config.json`` and tensor names, by what transformers' class of the type builds from them."""
