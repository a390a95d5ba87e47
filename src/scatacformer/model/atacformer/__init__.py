"""Atacformer: checkpoints of databio, read, trained and written back."""
