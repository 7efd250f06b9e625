"""Print pictures a second of an ONNX encoder by batch, as JSON: ``onnx_rate <file> <seconds> <batch> ...``.

All usable cores work on one inference, without pauses between two; all of onnxruntime's graph optimisations are on.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time

import numpy as np
import onnxruntime


def main() -> None:
    """Measure each batch for some seconds."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    side = session.get_inputs()[0].shape[-1]
    rates = {}
    for batch in map(int, sys.argv[3:]):
        pixels = np.random.default_rng(0).standard_normal((batch, 3, side, side)).astype(np.float32)
        session.run(None, {"pixels": pixels})
        times: list[float] = []
        end = time.perf_counter() + float(sys.argv[2])
        while (start := time.perf_counter()) < end or not times:
            session.run(None, {"pixels": pixels})
            times.append(time.perf_counter() - start)
        rates[batch] = batch / statistics.median(times)
    json.dump(rates, sys.stdout)


if __name__ == "__main__":
    main()
