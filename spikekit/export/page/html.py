"""HTML by construction: text is escaped unless it is `Html`, so no name can become markup."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


class Html(str):
    """Text that is markup already."""


Cell = str | int | float


def tag(name: str, *children: Cell, **attributes: Cell) -> Html:
    """`<name attributes>children</name>`; class_ stands for class, an underscore for a hyphen."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value), quote=True)}"' for key, value in attributes.items()
    )
    return Html(f"<{name}{given}>{join(*children)}</{name}>")


def join(*children: Cell) -> Html:
    """Children one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(str(child)) for child in children))


def table(
    head: Sequence[str], rows: Sequence[Sequence[Cell]], *, left: Sequence[int] = (0,), foot: bool = False
) -> Html:
    """A table whose columns are aligned right but those in `left`; foot: the last row is a total."""

    def line(cells: Sequence[Cell], kind: str) -> Html:
        return tag("tr", *(tag(kind, cell, class_="l" if i in left else "r") for i, cell in enumerate(cells)))

    body = rows[:-1] if foot else rows
    parts = [tag("thead", line(head, "th")), tag("tbody", *(line(row, "td") for row in body))]
    if foot:
        parts.append(tag("tfoot", line(rows[-1], "td")))
    return tag("div", tag("table", *parts), class_="wide")


def section(title: str, *children: Cell) -> Html:
    """A part of the page under a heading."""
    return tag("section", tag("h2", title), *children)


def note(*children: Cell) -> Html:
    """A paragraph in small print."""
    return tag("p", *children, class_="note")


def several(number: int, what: str) -> str:
    """A number of things: "1 sample", "1,000 samples"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def beside(picture: Html, number: str) -> Html:
    """A number behind its bar, in line with those above it."""
    return join(picture, tag("span", number, class_="number"))


def tile(label: str, value: str, more: str = "", kind: str = "") -> Html:
    """One number, large."""
    return tag(
        "div",
        tag("span", label, class_="label"),
        tag("span", value, class_="value"),
        tag("span", more, class_="label"),
        class_=f"tile {kind}".rstrip(),
    )


def document(title: str, *children: Cell) -> str:
    """The whole page: one file, no scripts, nothing fetched."""
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        tag("title", title),
        tag("style", Html(_STYLE)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('main', *children)), lang='en')}\n"


_STYLE = """
:root{--page:#fff;--ink:#1d2126;--soft:#5a6470;--line:#dde2e7;--fill:#f4f6f8;--mark:#0b6a94;--good:#1a7440;--bad:#b3261e;
--warn:#8a5300}
@media (prefers-color-scheme:dark){:root{--page:#15181c;--ink:#e4e8ec;--soft:#9aa5b1;--line:#333b44;--fill:#1e2329;
--mark:#5ab6e0;--good:#63c78a;--bad:#f2857c;--warn:#e0a95c}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:1.7em;line-height:1.2;margin:0 0 4px}
h2{font-size:1.2em;margin:40px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
h3{font-size:1em;margin:22px 0 6px}
p{margin:6px 0 10px;max-width:76ch}
.note{color:var(--soft);font-size:.87em}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(240px,45%),1fr));gap:10px;margin:18px 0}
.tile{background:var(--fill);border:1px solid var(--line);border-radius:8px;padding:10px 14px}
.tile span{display:block}
.label{color:var(--soft);font-size:.82em}
.value{font-size:1.35em;font-variant-numeric:tabular-nums}
.good .value,.good{color:var(--good)}.bad .value,.bad{color:var(--bad)}.warn .value,.warn{color:var(--warn)}
.tile.good,.tile.bad,.tile.warn{color:inherit}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.87em;font-variant-numeric:tabular-nums;margin:8px 0}
th,td{padding:4px 10px;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600;vertical-align:bottom}
tfoot td{font-weight:600;border-bottom:0}
.l{text-align:left}.r{text-align:right}td.r{white-space:nowrap}
td.l:first-child{font-weight:600}
svg{display:block;color:var(--mark)}
svg text{fill:var(--soft);font:11px system-ui,sans-serif}
.pictures{display:grid;grid-template-columns:minmax(0,2fr) minmax(0,1fr) minmax(0,1fr);gap:18px;align-items:start}
figure{margin:0}
figure svg{width:100%;height:120px;background:var(--fill);border:1px solid var(--line)}
figcaption{color:var(--soft);font-size:.8em;margin-top:3px}
.ends{display:flex;justify-content:space-between}
.meter{display:inline-block;width:90px;height:9px;background:var(--fill);border:1px solid var(--line);
vertical-align:middle}
.number{display:inline-block;min-width:5.6em}
code{font:.92em ui-monospace,Menlo,Consolas,monospace;background:var(--fill);padding:1px 4px;border-radius:3px}
@media (max-width:760px){.pictures{grid-template-columns:1fr}}
@page{margin:14mm}
@media print{:root{--page:#fff;--ink:#000;--soft:#444;--line:#bbb;--fill:#fff;--mark:#0b6a94}
main{max-width:none;padding:0}
body{font-size:10pt}section{break-inside:auto}h2,h3{break-after:avoid}tr,figure,.tile{break-inside:avoid}
.wide{overflow:visible}table{font-size:8pt}th,td{padding:2px 5px}
svg,.meter{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
