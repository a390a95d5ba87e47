"""The closed-form embedding that training starts from: spectrum, similarity, bin weights, batch shifts."""
