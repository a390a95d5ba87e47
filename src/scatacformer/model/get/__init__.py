"""GET: from regions and their motifs to expression, and back to the motifs that drive it."""
