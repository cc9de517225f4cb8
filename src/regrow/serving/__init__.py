"""Proof that a checkpoint is served: other programs load it and give the same tokens, or their known limits are named.

`loads.check_loads` is the entry; `gguf_file.write_gguf` makes the file that llama.cpp and its kin read.
"""
