"""AVIF (AV1 Image File Format 1.1): size and frames, from its boxes."""

from __future__ import annotations

import itertools

from gateway.decoding.headers.header import ImageHeader, shown_ms
from gateway.decoding.headers.isobmff import read_container, stored_size
from gateway.errors import ImageCorrupt

_COLOUR_HANDLER = b"pict"


def read_avif(data: bytes, *, max_frames: int) -> ImageHeader:
    """Read an AVIF's boxes.

    Memory is granted for the largest that any item or track states; libavif scales what its bitstream holds to that.

    Args:
        data: the whole file, starting with its ``ftyp`` box.
        max_frames: durations are listed of this many frames at most.

    Raises:
        ImageCorrupt: cut short, no size in it, or absurdly many parts.
    """
    found = read_container(data)
    tracks = [track for track in found.tracks if track.codec == b"av01" and track.handler == _COLOUR_HANDLER]
    still = stored_size(found.primary())
    durations_ms: tuple[int, ...] = ()
    # libavif shows what the major brand names: a sequence's first track or the still, one of which may be absent.
    if tracks and (found.brand == b"avis" or found.brand != b"avif" or still is None):
        (width, height), frames = (tracks[0].width, tracks[0].height), max(1, tracks[0].samples)
        if frames > 1:
            durations_ms = tuple(map(shown_ms, itertools.islice(tracks[0].durations_ms(), min(frames, max_frames))))
    elif still is not None:
        (width, height), frames = still, 1
    else:
        raise ImageCorrupt("This AVIF holds no image; send the complete file.")
    if not width or not height:
        raise ImageCorrupt("This AVIF says that it is empty: its width or height is zero.")
    # Planes of the decoder (3 samples of 1 or 2 bytes) with the references that it keeps, RGB bytes, Pillow's image
    # and the composed result.
    planes = 3 * (2 if found.deep else 1)
    return ImageHeader(
        format="avif",
        width=width,
        height=height,
        frames=frames,
        orientation=1,
        bytes_per_pixel=planes * (4 if frames > 1 else 2) + 10,
        keep=((0, len(data)),),
        durations_ms=durations_ms,
        decoded_pixels=max(width * height for width, height in found.sizes),
    )
