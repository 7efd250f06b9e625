"""The formats that a bundle's models can have: what writes and loads them, and what Triton is told of them."""
