"""Pages of a business document: A4, black on white, two weights of one typeface, page numbers, tables.

Equal contents make equal bytes: the creation date is the document's, and fonts hold no time. Text is embedded
with its characters, so that it can be selected and searched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, WrapMode

from exchange.printing import fonts

LEFT, RIGHT, TOP, BOTTOM = 20.0, 20.0, 18.0, 24.0
WIDTH = 210.0 - LEFT - RIGHT
_SMALL, _BODY, _TITLE = 7.5, 9.0, 22.0
_GREY, _BLACK, _RULE = 95, 0, 150
_LINE = 4.4
_GAP = 3.0  # between the text of a column and the next
_SMALL_LINE = 3.5
_LABELS = "".join(map(chr, range(32, 127))) + "·–—…"

Align = Literal["L", "R"]


@dataclass(frozen=True)
class Column:
    """A table's column: heading, width in millimetres, alignment."""

    heading: str
    width: float
    align: Align = "L"

    @property
    def inner(self) -> float:
        """The width of its text; a gap is kept to the right of what is not set against that edge."""
        return self.width - (_GAP if self.align == "L" else 0)


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and in small print below where it comes from."""

    text: str
    below: str = ""


class Pages(FPDF):
    """A document that grows from top to bottom; ``finished`` is its bytes."""

    def __init__(
        self,
        document: Mapping[str, Any],
        *,
        title: str,
        foot: str,
        issued_at: str,
        country: str,
        font_path: str,
    ) -> None:
        super().__init__(format="A4")
        self._foot = foot
        self._heading: Sequence[Column] = ()
        text = _LABELS + "".join(_texts(document)) + foot + title
        self._embed(text, country, font_path)
        self.set_title(title)
        self.set_lang("en")
        self.set_creator("exchange")
        self.set_creation_date(datetime.fromisoformat(issued_at))
        self.set_margins(LEFT, TOP, RIGHT)
        self.c_margin = 0  # text begins and ends where rules do
        self.set_auto_page_break(True, BOTTOM)
        self.alias_nb_pages()
        self.add_page()

    def _embed(self, text: str, country: str, font_path: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for style in fonts.WEIGHTS:
                path = Path(folder) / f"{style or 'R'}.ttf"
                path.write_bytes(fonts.draw(text, style, country=country, font_path=font_path))
                self.add_font(fonts.FAMILY, style, path)

    def finished(self) -> bytes:
        """The whole document."""
        return bytes(self.output())

    def header(self) -> None:
        """On pages after the first, the heading of the table that goes on."""
        if self._heading and self.page_no() > 1:
            self._draw_heading()

    def footer(self) -> None:
        """Whose document it is, and which page of how many."""
        self.set_y(-BOTTOM + 7)
        self.set_draw_color(_RULE)
        self.line(LEFT, self.get_y() - 2, LEFT + WIDTH, self.get_y() - 2)
        self._style(_SMALL, grey=True)
        self.cell(WIDTH - 30, _SMALL_LINE, self._foot)
        self.cell(30, _SMALL_LINE, f"Page {self.page_no()} of {{nb}}", align="R")

    def opening(self, kind: str, number: str, facts: Sequence[tuple[str, str]]) -> None:
        """What the document is, with its number, and its facts on the right."""
        top = self.get_y()
        self._style(_TITLE, bold=True)
        self.cell(WIDTH / 2, 10, kind)
        self.set_xy(LEFT, top + 11)
        self._style(_BODY + 2)
        self.cell(WIDTH / 2, 6, number)
        self.set_y(top + 1)
        for name, value in facts:
            self.set_x(LEFT + WIDTH / 2)
            self._style(_BODY, grey=True)
            self.cell(32, _LINE + 0.6, name)
            self._style(_BODY)
            self.cell(WIDTH / 2 - 32, _LINE + 0.6, value, align="R")
            self.ln()
        self.set_y(max(self.get_y(), top + 18) + 6)

    def parties(self, *parties: tuple[str, Sequence[str]]) -> None:
        """Parties side by side: a label, then the name in bold and lines below it."""
        top, bottom, width = self.get_y(), self.get_y(), WIDTH / len(parties)
        for number, (label, lines) in enumerate(parties):
            self.set_y(top)
            for place, text in enumerate([label, *lines]):
                self.set_x(LEFT + number * width)
                self._style(_SMALL if place == 0 else _BODY + (place == 1), bold=place == 1, grey=place == 0)
                self.multi_cell(width - 8, _LINE if place else 5, text, align="L", new_x="LEFT", new_y="NEXT")
            bottom = max(bottom, self.get_y())
        self.set_y(bottom + 8)

    def heading(self, text: str) -> None:
        """The name of a part; never alone at a page's end."""
        if self.will_page_break(30):
            self.add_page()
        self._style(_BODY + 2, bold=True)
        self.cell(WIDTH, 7, text, new_x="LMARGIN", new_y="NEXT")

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:  # type: ignore[override]
        """Rows that are never broken between pages; the heading is repeated."""
        self._heading = columns
        self._draw_heading()
        for row in rows:
            self._row(columns, row)
        self._heading = ()
        self.ln(3)

    def amounts(self, rows: Sequence[tuple[str, str]], total: tuple[str, str]) -> None:
        """Amounts below each other at the right edge, the total in bold under a rule; all on one page."""
        left, width = LEFT + WIDTH * 0.45, WIDTH * 0.55
        if self.will_page_break((len(rows) + 2) * 6.0):
            self.add_page()
        for number, (name, value) in enumerate([*rows, total]):
            last = number == len(rows)
            if last:
                self.set_draw_color(_BLACK)
                self.line(left, self.get_y() + 0.5, left + width, self.get_y() + 0.5)
                self.ln(1.5)
            self._style(_BODY + 2 * last, bold=last)
            self.set_x(left)
            self.cell(width * 0.6, 6, name)
            self.cell(width * 0.4, 6, value, align="R", new_x="LMARGIN", new_y="NEXT")
        self.line(left, self.get_y() + 0.8, left + width, self.get_y() + 0.8)
        self.ln(6)

    def notes(self, lines: Sequence[str]) -> None:
        """Sentences at the end."""
        self._style(_BODY)
        for line in filter(None, lines):
            self.multi_cell(WIDTH, _LINE, line, align="L", new_x="LMARGIN", new_y="NEXT")
            self.ln(1.2)

    def small_print(self, lines: Sequence[str]) -> None:
        """Where the document can be checked."""
        self.ln(2)
        self._style(_SMALL, grey=True)
        for line in lines:
            self.multi_cell(WIDTH, _SMALL_LINE, line, align="L", new_x="LMARGIN", new_y="NEXT")

    def _style(self, size: float, *, bold: bool = False, grey: bool = False) -> None:
        self.set_font(fonts.FAMILY, "B" if bold else "", size)
        self.set_text_color(_GREY if grey else _BLACK)

    def _draw_heading(self) -> None:
        self._style(_SMALL, grey=True)
        self.set_x(LEFT)
        for column in self._heading:
            self.cell(column.width, 6, column.heading, align=column.align)
        self.ln()
        self.set_draw_color(_BLACK)
        self.line(LEFT, self.get_y(), LEFT + WIDTH, self.get_y())
        self.ln(1.4)

    def _row(self, columns: Sequence[Column], row: Sequence[Cell]) -> None:
        heights = [self._height(cell, column) for cell, column in zip(row, columns, strict=True)]
        if self.will_page_break(max(heights) + 2):
            self.add_page()
        top, left = self.get_y(), LEFT
        for cell, column in zip(row, columns, strict=True):
            self.set_xy(left, top)
            self._part(cell.text, column, _BODY, _LINE)
            if cell.below:
                self.set_x(left)
                self._part(cell.below, column, _SMALL, _SMALL_LINE, grey=True)
            left += column.width
        self.set_y(top + max(heights) + 1)
        self.set_draw_color(_RULE + 60)
        self.line(LEFT, self.get_y(), LEFT + WIDTH, self.get_y())
        self.ln(1.2)

    def _part(self, text: str, column: Column, size: float, height: float, *, grey: bool = False) -> None:
        self._style(size, grey=grey)
        self.multi_cell(
            column.inner, height, text, align=column.align, new_x="LEFT", new_y="NEXT", wrapmode=WrapMode.WORD
        )

    def _height(self, cell: Cell, column: Column) -> float:
        total = 0.0
        for text, size, line in ((cell.text, _BODY, _LINE), (cell.below, _SMALL, _SMALL_LINE)):
            if text:
                self._style(size)
                broken = self.multi_cell(
                    column.inner, line, text, align="L", dry_run=True, output=MethodReturnValue.LINES
                )
                assert isinstance(broken, list)
                total += line * len(broken)
        return total


def _texts(value: object) -> list[str]:
    """Every text of a document, however deep."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _texts(one)]
    return []
