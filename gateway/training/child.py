"""The process that trains: examples on standard input, what came of them on standard output.

Started as ``python -m gateway.training.child PARENT_PID MEMORY_BYTES CPU_S CONFIDENCE``.
"""

from __future__ import annotations

import base64
import json
import sys

from gateway.training.confined_process import confine


def main() -> None:
    """Train once, confined; whatever goes wrong ends the process with an exit code and a traceback."""
    parent, memory, cpu_s, confidence = sys.argv[1:]
    confine(parent, memory, cpu_s)
    data = sys.stdin.buffer.read()

    from gateway.training.examples import Examples  # noqa: PLC0415 - numpy and scikit-learn load under the limits
    from gateway.training.held_out import train  # noqa: PLC0415

    made = train(Examples.from_bytes(data), float(confidence))
    layer = made.head.layers[0] if made.head is not None else None
    answer = {
        "reason": made.reason,
        "figures": made.figures,
        "weight": layer and base64.b64encode(layer.weight.tobytes()).decode(),
        "bias": layer and base64.b64encode(layer.bias.tobytes()).decode(),
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
