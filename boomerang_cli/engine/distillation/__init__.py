"""Distillation of a student from its teacher."""
