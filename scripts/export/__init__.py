"""Turns a CLIP into a bundle: two TorchScript models with their Triton configs, tokenizer and manifest."""
