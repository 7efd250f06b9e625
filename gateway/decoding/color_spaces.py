"""The color spaces that images signal: chromaticities, curves, and the matrices between them (ITU-T H.273, BT.2100)."""
# ruff: noqa: PLR2004 - the constants of standards

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

REFERENCE_WHITE: Final = 203.0
"""cd/m² of white in PQ and HLG (ITU-R BT.2408)."""
_D65: Final = (0.3127, 0.3290)
SRGB_PRIMARIES: Final = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)

CHROMATICITIES: Final = {
    1: SRGB_PRIMARIES,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    8: (0.310, 0.316, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
"""x and y of white, red, green and blue (ITU-T H.273, table 2)."""


def light_of(transfer: int) -> Floats | None:
    """Return the linear light of 256 levels (ITU-T H.273, table 3); None of what no browser converts.

    Of PQ 1.0 is the reference white, of HLG the scene's.
    """
    level = np.arange(256) / 255
    match transfer:
        case 1 | 6 | 14 | 15:
            light = level**2.4  # of the display (BT.1886), not of the camera
        case 4:
            light = level**2.2
        case 5:
            light = level**2.8
        case 7:
            light = np.where(level < 0.0913, level / 4, ((level + 0.1115) / 1.1115) ** (1 / 0.45))
        case 8:
            light = level
        case 13:
            light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
        case 16:  # BT.2100 table 4
            root = level ** (32 / 2523)
            part = np.maximum(root - 3424 / 4096, 0) / (2413 / 128 - 2392 / 128 * root)
            light = 10_000 / REFERENCE_WHITE * part ** (16384 / 2610)
        case 17:
            light = 52.37 / 48 * level**2.6
        case 18:  # BT.2100 table 5
            a, b, c = 0.17883277, 0.28466892, 0.55991073
            light = np.where(level <= 0.5, level**2 / 3, (np.exp((level - c) / a) + b) / 12)
        case _:
            return None
    return light.astype(np.float32)


def to_xyz(chromaticities: tuple[float, ...]) -> Matrix:
    """Return the matrix from linear RGB to XYZ, in which white has Y = 1.

    Raises:
        ZeroDivisionError, LinAlgError: the chromaticities span no colors.
    """
    white, *primaries = (
        (x / y, 1.0, (1 - x - y) / y) if index == 0 else (x, y, 1 - x - y)
        for index, (x, y) in enumerate(zip(chromaticities[::2], chromaticities[1::2], strict=True))
    )
    columns = np.array(primaries).T
    return np.asarray(columns * np.linalg.solve(columns, np.array(white)))


def matrix_between(source: tuple[float, ...], target: tuple[float, ...]) -> Matrix:
    """Return the matrix from one linear RGB to another, with Bradford's adaptation of white."""
    bradford = np.array(((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296)))
    of_source, of_target = to_xyz(source), to_xyz(target)
    scale = (bradford @ of_target.sum(axis=1)) / (bradford @ of_source.sum(axis=1))
    adapt = np.linalg.solve(bradford, scale[:, None] * bradford)
    return np.asarray(np.linalg.solve(of_target, adapt @ of_source))
