"""What `boomerang demo` is made of: the built-in teacher, how it was trained, and the text that it was trained on."""
