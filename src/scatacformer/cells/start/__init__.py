"""The closed-form embedding that initialises training: spectrum, similarity, bin weights, batch shifts."""
