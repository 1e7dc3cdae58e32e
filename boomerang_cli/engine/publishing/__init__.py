"""What others read of a model: where it comes from, its card, its way to the Hub."""
