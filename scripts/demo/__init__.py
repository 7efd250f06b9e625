"""The demo CLIP: a drawn world with captions, the training of a small CLIP on it, and its evaluation."""
