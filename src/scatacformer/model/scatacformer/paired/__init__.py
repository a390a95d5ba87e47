"""scAtacFormer with the RNA of the same cells."""
