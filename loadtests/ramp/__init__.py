"""A ramp to saturation: more users at a time, step by step, until throughput no longer grows."""
