"""The network of scAtacFormer: a set of open bins in, the state of every bin out."""
