"""Models on the Hugging Face Hub: read whole or by ranges, and written."""
