"""Models that misbehave for single-coloured pictures: what cannot be right, and what takes its time."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image

BAD_WORD = "qqq"

# Top left pixels; what comes of each stands in Bad and SLEEPY.
NAN, SHORT, RAISES = (7, 1, 1), (7, 1, 2), (7, 1, 3)

# A tenth of a second times the blue, and as long as the test wants.
SLOW, HELD = (7, 2), (7, 3, 1)
HELD_AT_MOST_S = 60
SLEEPY = '''

class TritonPythonModel(TritonPythonModel):
    """As above, and takes its time for pictures that begin with certain colours; says so in files."""

    FOLDER = {folder!r}

    def execute(self, requests):
        import os, time

        for request in requests:
            if request.is_cancelled():
                continue
            found = pb_utils.get_input_tensor_by_name(request, "pixels")
            if found is None:
                continue
            red, green, blue = torch.utils.dlpack.from_dlpack(found)[0, 0, 0].tolist()
            if (red, green) == {slow!r}:
                self._note("begun")
                time.sleep(blue / 10)
                self._note("ended")
            elif (red, green, blue) == {held!r}:
                self._note("begun")
                end = time.monotonic() + {held_at_most_s}
                while os.path.exists(self.FOLDER + "/held") and time.monotonic() < end:
                    time.sleep(0.01)
                self._note("ended")
        return super().execute(requests)

    def _note(self, what):
        with open(self.FOLDER + "/" + what, "a") as file:
            file.write(what + "\\n")
'''


def slow(tenths: int) -> tuple[int, int, int]:
    """Return the colour that an inference takes tenths of a second for."""
    return (*SLOW, tenths)


def solid(colour: tuple[int, int, int]) -> bytes:
    """Return a picture of one colour, which every view keeps."""
    out = io.BytesIO()
    Image.new("RGB", (72, 72), colour).save(out, "PNG")
    return out.getvalue()


class BadImage(torch.nn.Module):
    """The image model, and for some pictures one that is broken."""

    def __init__(self, good: Any) -> None:
        super().__init__()
        self.good = good

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what the good model returns, unless a picture says otherwise."""
        out: torch.Tensor = self.good(pixels)
        first = pixels[:, 0, 0]
        bad = (first[:, 0] == 7) & (first[:, 1] == 1)
        # Row by row where that is possible: others may be in the same batch.
        out = out.masked_fill((bad & (first[:, 2] == 1)).unsqueeze(1), float("nan"))
        if bool((bad & (first[:, 2] == 3)).any().item()):
            raise RuntimeError("broken")
        if bool((bad & (first[:, 2] == 2)).any().item()):
            out = out[:, 1:]
        return out


class BadText(torch.nn.Module):
    """The text model, and NaN for texts with one token."""

    def __init__(self, good: Any, token: int) -> None:
        super().__init__()
        self.good = good
        self.token = token

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Return what the good model returns, unless the token is there."""
        out: torch.Tensor = self.good(input_ids)
        return out.masked_fill((input_ids == self.token).any(dim=1).unsqueeze(1), float("nan"))


class Doubled(torch.nn.Module):
    """The image model in another type than the manifest says."""

    def __init__(self, good: Any) -> None:
        super().__init__()
        self.good = good

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return float64."""
        out: torch.Tensor = self.good(pixels)
        return out.double()
