"""The type of printed documents: one small font per document, drawn with the glyphs that its text needs.

Latin, Greek and Cyrillic are of Noto Sans, Chinese, Korean and Japanese of Noto Sans CJK in the shapes of
the reader's region. Both are variable fonts under the SIL Open Font License 1.1 that come with the server's
packages. ``EXCHANGE_FONT_PATH`` names a font that is asked first. Outlines are taken at the wanted weight and
made quadratic, which is what a TrueType font holds.
"""

from __future__ import annotations

import io
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.recordingPen import DecomposingRecordingPen
from fontTools.pens.transformPen import TransformPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont, TTLibError

from exchange.errors import FontMissing

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Font family of documents, and the weights of its two faces.
FAMILY = "Exchange"
WEIGHTS = {"": 400, "B": 700}

_LATIN = "fontpkg_noto_sans", "files/NotoSans[wdth,wght].ttf"
_CJK = "manimgx_fonts_cjk", "NotoSansCJK-VF.otf.ttc"
#: Country -> face of the CJK collection: the same character is drawn differently in each.
_REGIONS = {"JP": 0, "KR": 1, "TW": 3, "HK": 4, "MO": 4}
_SIMPLIFIED = 2
_EM = 1000
_ALWAYS = 3_029_529_600  # 2000-01-01, counted from 1904: the time of drawing would tell equal documents apart
_LOCK = threading.Lock()  # a font is read as its glyphs are asked for
_CURVE_ERROR = 1.0


def draw(text: str, style: str, *, country: str = "", font_path: str = "") -> bytes:
    """A TrueType font with every character of ``text``, regular ("") or bold ("B").

    Characters of no font get its empty box. ``country`` chooses the shapes of Chinese characters. Raises
    :class:`FontMissing`.
    """
    with _LOCK:
        return _drawn(text, style, _faces(country, font_path))


def _drawn(text: str, style: str, faces: Sequence[TTFont]) -> bytes:
    glyphs: dict[str, Any] = {}
    metrics: dict[str, tuple[int, int]] = {}
    characters: dict[int, str] = {}
    _add(glyphs, metrics, faces[0], ".notdef", ".notdef", style)
    for number, face in enumerate(faces):
        cmap = _characters(face)
        for code in sorted({ord(character) for character in text} - set(characters)):
            if code in cmap:
                characters[code] = name = f"u{code:05X}.{number}"
                _add(glyphs, metrics, face, cmap[code], name, style)
    return _saved(glyphs, metrics, characters, style)


def _add(
    glyphs: dict[str, Any],
    metrics: dict[str, tuple[int, int]],
    face: TTFont,
    source: str,
    name: str,
    style: str,
) -> None:
    axes = {axis.axisTag for axis in face["fvar"].axes} if "fvar" in face else set()
    drawn = face.getGlyphSet(location={"wght": WEIGHTS[style]} if "wght" in axes else None)
    found, whole = drawn[source], DecomposingRecordingPen(drawn)
    found.draw(whole)
    scale = _EM / face["head"].unitsPerEm
    outline = TTGlyphPen(None)
    whole.replay(TransformPen(Cu2QuPen(outline, _CURVE_ERROR), (scale, 0, 0, scale, 0, 0)))
    glyphs[name] = glyph = outline.glyph()
    glyph.recalcBounds(None)
    metrics[name] = round(found.width * scale), getattr(glyph, "xMin", 0)


def _saved(
    glyphs: dict[str, Any], metrics: dict[str, tuple[int, int]], characters: dict[int, str], style: str
) -> bytes:
    made = FontBuilder(_EM, isTTF=True)
    made.setupGlyphOrder(list(glyphs))
    made.setupCharacterMap(characters)
    made.setupGlyf(glyphs)
    made.setupHorizontalMetrics(metrics)
    made.setupHorizontalHeader(ascent=1069, descent=-293)
    face = "Bold" if style else "Regular"
    made.setupNameTable({"familyName": FAMILY, "styleName": face, "psName": f"{FAMILY}-{face}"})
    made.setupOS2(sTypoAscender=1069, sTypoDescender=-293, usWeightClass=WEIGHTS[style], sCapHeight=714)
    made.setupPost()
    made.font["head"].created = made.font["head"].modified = _ALWAYS
    made.font.recalcTimestamp = False
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


def _faces(country: str, font_path: str) -> Sequence[TTFont]:
    own = [_opened(Path(font_path), 0)] if font_path else []
    return [
        *own,
        _opened(_packaged(*_LATIN), 0),
        _opened(_packaged(*_CJK), _REGIONS.get(country, _SIMPLIFIED)),
    ]


def _packaged(package: str, file: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise FontMissing(f"the fonts of printed documents are not installed: {package} is missing")
    return Path(found.origin).parent / file


@cache
def _opened(path: Path, number: int) -> TTFont:
    try:
        return TTFont(path, fontNumber=number, lazy=False, recalcTimestamp=False)
    except (OSError, TTLibError) as error:
        raise FontMissing(f"the font {path.name} cannot be read ({type(error).__name__})") from error


@cache
def _characters(face: TTFont) -> dict[int, str]:
    return dict(face.getBestCmap() or {})
