"""GIFs as browsers draw them: what no frame covers, and what a frame leaves behind, is transparent.

Pillow fills both with a colour of the file, which may be the very colour that the next frame draws with, and lets one
frame's disposal hold for the next ones.
"""

from __future__ import annotations

from PIL import GifImagePlugin, Image

_CLEAR, _RESTORE = 2, {3, 4}  # GIF89a 23.c.iv; browsers take 4 for 3, and all above for "leave it"


class GifFile(GifImagePlugin.GifImageFile):
    """Pillow's GIF with the rules of browsers."""

    def load_end(self) -> None:
        """Finish a frame."""
        before = self._prev_im
        if before is not None and before.size != self.size:  # this frame extends beyond the canvas
            wider = Image.new("RGBA", self.size).im
            wider.paste(before, (0, 0, *before.size))
            self._prev_im = wider
        super().load_end()
        if self.tell() == 0 and self.dispose_extent != (0, 0, *self.size):
            self._lay_out()

    def _seek(self, frame: int, update_image: bool = True) -> None:  # noqa: FBT001, FBT002 - Pillow's signature
        if frame == 1 and update_image:
            self.load()
            self._lay_out()
        self.disposal_method = 0
        super()._seek(frame, update_image)
        if not update_image or self.dispose_extent is None:
            return
        left, top, right, bottom = self.dispose_extent
        if self.disposal_method == _CLEAR or (frame == 0 and self.disposal_method in _RESTORE):
            self.dispose = Image.new("RGBA", (right - left, bottom - top)).im
        elif self.disposal_method not in _RESTORE:
            self.dispose = None

    def _lay_out(self) -> None:
        """Put the first frame on a transparent canvas."""
        if self.mode == "RGBA" or self.dispose_extent is None:
            return
        canvas = Image.new("RGBA", self.size)
        canvas.paste(self.convert("RGBA").crop(self.dispose_extent), self.dispose_extent[:2])
        self.im, self._mode, self.palette = canvas.im, "RGBA", None
        self.info.pop("transparency", None)
