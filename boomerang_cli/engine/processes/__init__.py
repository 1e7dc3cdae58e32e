"""One command in several processes: they are started, ask one another, and end together."""
