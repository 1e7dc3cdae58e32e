"""['layers', 'order', 'selection', 'student_config', 'pair', 'origin']"""
