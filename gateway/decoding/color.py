"""From the colors that an image signals to sRGB, which the model was trained on and browsers show.

What decides, in this order, as Chromium 156 does (``tests/decoding/test_color.py`` compares with it):

* **PNG**: cICP, then iCCP, then sRGB, then gAMA with cHRM; what is broken is passed over. **AVIF and HEIC**: an ICC
  profile, then the code points of the box ``colr``. **JPEG and WebP**: an ICC profile. GIF has none.
* A profile's tag ``cicp`` goes before its curves, its tables before its matrix. A profile of another color model than
  the image's is passed over; one of RGB holds for grey images too.

**ICC profiles** are applied by Little CMS, through Pillow. **Code points and gamma** are computed here: to linear light
(ITU-T H.273, table 3), to sRGB's primaries adapted to D65 (Bradford), to sRGB's curve, without gamut mapping: what lies
outside is clipped.

**PQ and HLG** (ITU-R BT.2100-2, tables 4 and 5) show white at 203 cd/m² (BT.2408) and highlights up to 1,000. They are
brought into the range of an SDR display by the reference white tone map of SMPTE ST 2094-50 that Chromium uses: white
goes to half of the display's light, below it all is linear, above it a Bézier curve rolls off to 1,000 cd/m². The gain
is that of the largest of red, green and blue, so that hues stay. Metadata of mastering displays is not looked at.
"""
# ruff: noqa: PLR2004 - the constants of standards

from __future__ import annotations

import io
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from gateway.decoding.color_spaces import (
    CHROMATICITIES,
    REFERENCE_WHITE,
    SRGB_PRIMARIES,
    Floats,
    Matrix,
    light_of,
    matrix_between,
    to_xyz,
)
from gateway.decoding.headers.color import (
    AS_BT709,
    BT709,
    HLG,
    PQ,
    SRGB,
    SRGB_COLORANTS,
    UNSPECIFIED,
    Color,
    code_points_of_profile,
    is_smooth,
    matrix_profile,
    read_profile,
)
from gateway.decoding.headers.header import ImageFormat

_PEAK: Final = 1000.0 / REFERENCE_WHITE
"""Of HLG by its definition, and assumed of PQ."""
_BT2020: Final = 9
_MOST_GAIN: Final = 1000.0
"""Of chromaticities that span next to nothing."""
_ENCODED: Final = 1 << 14
"""Steps of linear light: sRGB's steepest part takes 12.92 x 255 / 16,384 = 0.2 levels a step."""
_BAND_PIXELS: Final = 1 << 16

_PERCEPTUAL: Final = ImageCms.Intent.PERCEPTUAL
_FLAGS: Final = (
    ImageCms.Flags.HIGHRESPRECALC | ImageCms.Flags.CLUT_PRE_LINEARIZATION | ImageCms.Flags.NOWHITEONWHITEFIXUP
)
"""Curves before a table of colors stay as fine as they are: they may hide the image between the table's points. Paper
white becomes what the profile says: browsers do not make it sRGB's white, as Little CMS would."""
_MODELS: Final = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK", b"Lab ": "LAB"}


class Conversion(Protocol):
    """Turns an image's colors into sRGB.

    Attributes:
        smooth: shrinking an image first makes no difference that can be seen.
    """

    smooth: bool

    def __call__(self, image: Image.Image, /) -> Image.Image:
        """Return a new image: RGBA of RGBA, else RGB."""
        ...


Found = Conversion | Literal["srgb"] | None
"""A conversion, that none is needed, or nothing that can be used."""


def conversion_of(color: Color | None, data: bytes, kind: ImageFormat, mode: str) -> Conversion | None:
    """Return the conversion that an image needs; None of one that is sRGB or says nothing that can be used.

    Args:
        color: what its header says.
        data: the whole file.
        kind: its format.
        mode: Pillow's, of the image as it is decoded.
    """
    if color is None:
        return None
    points = None
    if mode != "CMYK":
        points = _by_code_points(color.primaries, color.transfer, video_is_srgb=kind in {"avif", "heic"})
    found = points if kind == "png" else None
    if found is None and color.profile:
        found = _by_profile(read_profile(data, color), mode)
    found = found or points or (_by_gamma(color) if color.gamma else None)
    return None if found == "srgb" else found


def _by_profile(profile: bytes, mode: str) -> Found:
    """Return the conversion by an ICC profile, or None where it has to be passed over."""
    model = _MODELS.get(profile[16:20])
    grey = mode in {"1", "L", "LA", "La"} or mode.startswith("I")
    if model is None or (mode == "CMYK") != (model == "CMYK") or (model == "L" and not grey):
        return None
    points = code_points_of_profile(profile)
    if points is not None and model == "RGB":
        return _by_code_points(*points, video_is_srgb=False) or "srgb"
    plain = matrix_profile(profile)
    if plain is not None and plain.kind == "srgb":
        return "srgb"
    if plain is not None:
        matrix = np.linalg.solve(np.array(SRGB_COLORANTS).T, np.array(plain.colorants or SRGB_COLORANTS).T)
        return _Formula(np.array(plain.curves).T, matrix, smooth=plain.kind == "smooth")
    try:
        return _Tables(profile, model)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


class _Bands:
    """Converts an image some rows at a time, so that next to the image and its copy little memory is needed."""

    smooth = False

    def __call__(self, image: Image.Image, /) -> Image.Image:
        if image.mode not in {"L", "RGB", "RGBA", "CMYK"}:
            image = image.convert("RGB")
        converted = Image.new("RGBA" if image.mode == "RGBA" else "RGB", image.size)
        rows = max(1, _BAND_PIXELS // image.width)
        for top in range(0, image.height, rows):
            band = image.crop((0, top, image.width, min(top + rows, image.height)))
            shown = self._shown(band if band.mode in {"L", "CMYK"} else band.convert("RGB"))
            if band.mode == "RGBA":
                shown.putalpha(band.getchannel("A"))
            converted.paste(shown, (0, top))
        return converted

    def _shown(self, band: Image.Image) -> Image.Image:
        """Return a band of mode L, RGB or CMYK in sRGB, mode RGB."""
        raise NotImplementedError


class _Tables(_Bands):
    """An ICC profile with tables, by Little CMS with the intent that browsers take: no black point is moved.

    Args:
        profile: its bytes.
        model: Pillow's mode of its colors.
    """

    def __init__(self, profile: bytes, model: str) -> None:
        # Browsers do not look at the class of a profile; Little CMS asks it what the tags mean.
        displayed = profile[:12] + b"mntr" + profile[16:] if model in {"RGB", "L"} else profile
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        # As version 2: into one of version 4 Little CMS moves the black point.
        target = ImageCms.ImageCmsProfile(io.BytesIO(srgb[:8] + b"\2" + srgb[9:]))
        source = ImageCms.ImageCmsProfile(io.BytesIO(displayed))
        self._model = model
        self._transform = ImageCms.buildTransform(source, target, model, "RGB", _PERCEPTUAL, _FLAGS)

    def _shown(self, band: Image.Image) -> Image.Image:
        if self._model == "LAB":
            samples = np.array(band.convert("RGB"))
            samples[..., 1:] ^= 128  # Pillow keeps a and b with a sign
            band = Image.frombytes("LAB", band.size, samples.tobytes())
        elif self._model == "L" and band.mode != "L":
            band = band.getchannel(0)
        elif self._model == "RGB" and band.mode != "RGB":
            band = band.convert("RGB")
        converted = ImageCms.applyTransform(band, self._transform)
        if converted is None:
            raise ValueError("the transform was asked for a new image")
        return converted


class _Formula(_Bands):
    """Samples to linear light by a table of 256, through a matrix to sRGB.

    Args:
        light: linear light of each level, [256], or [256, 3] of red, green and blue.
        matrix: from the image's linear RGB to sRGB's.
        smooth: see ``Conversion``.
    """

    def __init__(self, light: npt.NDArray[Any], matrix: Matrix, *, smooth: bool) -> None:
        self.smooth = smooth
        self._light = np.broadcast_to(light.reshape(256, -1), (256, 3)).T.astype(np.float32)
        self._matrix = matrix.astype(np.float32)
        self._levels = _srgb_levels()

    def _shown(self, band: Image.Image) -> Image.Image:
        planes = [
            light[np.asarray(plane)] for light, plane in zip(self._light, band.convert("RGB").split(), strict=True)
        ]
        planes = _mixed(self._matrix, self._displayed(planes))
        steps = [plane.clip(0, 1) * np.float32(_ENCODED) + np.float32(0.5) for plane in planes]
        return Image.merge("RGB", [Image.fromarray(self._levels[step.astype(np.uint16)]) for step in steps])

    def _displayed(self, planes: list[Floats]) -> list[Floats]:
        """Return the light of a display, from that of the samples; planes of red, green and blue."""
        return planes


def _mixed(matrix: Floats, planes: list[Floats]) -> list[Floats]:
    """Return planes times a matrix; BLAS takes longer for three of them."""
    return [row[0] * planes[0] + row[1] * planes[1] + row[2] * planes[2] for row in matrix]


class _HighDynamicRange(_Formula):
    """PQ or HLG.

    Args:
        light: of PQ in units of the reference white, of HLG the scene's.
        chromaticities: of the image.
        hlg: otherwise PQ.
    """

    def __init__(self, light: Floats, chromaticities: tuple[float, ...], *, hlg: bool) -> None:
        wide = CHROMATICITIES[_BT2020]
        super().__init__(light, matrix_between(wide, SRGB_PRIMARIES), smooth=False)
        self._hlg = hlg
        self._to_wide = matrix_between(chromaticities, wide).astype(np.float32)
        self._luminance = to_xyz(wide)[1:2].astype(np.float32)

    def _displayed(self, planes: list[Floats]) -> list[Floats]:
        planes = _mixed(self._to_wide, planes)
        if self._hlg:  # BT.2100 table 5: the display's light is the scene's, times its luminance ** 0.2
            (luminance,) = _mixed(self._luminance, planes)
            system = np.float32(_PEAK) * luminance.clip(0) ** np.float32(0.2)
            planes = [plane * system for plane in planes]
        gain = _tone_gain(np.maximum(np.maximum(planes[0], planes[1]), planes[2]))
        return [plane * gain for plane in planes]


def _by_code_points(primaries: int, transfer: int, *, video_is_srgb: bool) -> Found:
    """Return the conversion of code points; None where they mean nothing.

    Args:
        primaries: ITU-T H.273, 8.1.
        transfer: ITU-T H.273, 8.2.
        video_is_srgb: what is unspecified or encoded as BT.709 counts as sRGB, as browsers take it in AVIF.
    """
    if video_is_srgb:
        transfer = SRGB if transfer in AS_BT709 | {UNSPECIFIED} else transfer
        primaries = BT709 if primaries == UNSPECIFIED else primaries
    chromaticities = CHROMATICITIES.get(primaries)
    light = light_of(transfer)
    if chromaticities is None or light is None:
        return None
    if (primaries, transfer) == (BT709, SRGB):
        return "srgb"
    if transfer in {PQ, HLG}:
        return _HighDynamicRange(light, chromaticities, hlg=transfer == HLG)
    return _Formula(light, matrix_between(chromaticities, SRGB_PRIMARIES), smooth=is_smooth(light.tolist()))


def _by_gamma(color: Color) -> Conversion | None:
    """Return the conversion by a PNG's gAMA and cHRM; None of what is close to sRGB, or broken."""
    gamma = color.gamma / 100_000
    chromaticities = tuple(value / 100_000 for value in color.chromaticities) or SRGB_PRIMARIES
    near = np.allclose(chromaticities, SRGB_PRIMARIES, atol=0.001)
    if near and abs(gamma * 2.2 - 1) < 0.05:
        return None
    try:
        matrix = matrix_between(chromaticities, SRGB_PRIMARIES)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None
    if not np.abs(matrix).max() < _MOST_GAIN:
        return None
    light = (np.arange(256) / 255) ** (1 / gamma)
    return _Formula(light, matrix, smooth=is_smooth(light.tolist()))


def _tone_gain(brightest: Floats) -> Floats:
    """Return the factor on light, white being 1.0, by the reference white tone map (SMPTE ST 2094-50, annex).

    From (1, 1/2) a Bézier curve, whose middle point lies 0.65 of the way to where the straight part would meet 1.0,
    leads to (peak, 1).
    """
    middle = 1 + 0.65 * (2 - 1)
    height = 0.5 + 0.65 * (1 - 0.5)
    bright = brightest.clip(1, _PEAK)
    a, b = 1 - 2 * middle + _PEAK, 2 * (middle - 1)
    along = (np.sqrt(b * b + 4 * a * (bright - 1)) - b) / (2 * a)
    shown = 0.5 * (1 - along) ** 2 + 2 * height * along * (1 - along) + along**2
    gain = np.where(brightest > 1, shown / np.maximum(brightest, 1), 0.5)
    return gain.astype(np.float32)


def _srgb_levels() -> npt.NDArray[np.uint8]:
    light = np.arange(_ENCODED + 1) / _ENCODED
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return (255 * encoded + 0.5).astype(np.uint8)
