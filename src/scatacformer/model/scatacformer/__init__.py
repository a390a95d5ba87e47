"""scAtacFormer: AnnData or MuData in, embeddings and accessibility out."""
