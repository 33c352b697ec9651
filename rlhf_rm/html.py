"""Self-contained pages: no network, no script, light and dark, for narrow and wide windows and for paper."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

# Should a text of the data ever get by unescaped, the browser runs and loads nothing of it.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def document(title: str, body: Iterable[str], contents: Sequence[tuple[str, str, int]] = ()) -> str:
    """A whole page.

    Args:
        title: as text; it is escaped here.
        body: HTML, escaped by whoever made it.
        contents: of a table of contents, the anchor, the text and the level (2 or 3) of each heading.
    """
    links = "".join(
        f"<li class=level{level}><a href='#{escape(at)}'>{escape(text)}</a></li>"
        for at, text, level in contents
    )
    nav = f"<nav aria-label='Contents'><ol>{links}</ol></nav>" if links else ""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='color-scheme' content='light dark'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body{' class=contents' if nav else ''}>{nav}<main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


def picture(light: str, dark: str, alt: str) -> str:
    """An image with one drawing for light pages and for paper, and one for dark pages.

    Args:
        light, dark: SVG.
        alt: what it shows, as text.
    """
    uris = [f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}" for svg in (light, dark)]
    return (
        f"<picture><source media='screen and (prefers-color-scheme: dark)' srcset='{uris[1]}'>"
        f"<img alt='{escape(alt)}' src='{uris[0]}'></picture>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls within itself where it is too wide; cells are text, the first names its row."""
    titles = "".join(f"<th scope='col'>{escape(one)}</th>" for one in head)
    lines = "".join(
        f"<tr><th scope='row'>{escape(first)}</th>{''.join(f'<td>{escape(one)}</td>' for one in rest)}</tr>"
        for first, *rest in rows
    )
    kind = "numbers" if len(head) > 2 else "numbers two"  # two columns fit any window
    thead = f"<thead><tr>{titles}</tr></thead>" if any(head) else ""
    return f"<div class='wide'><table class='{kind}'>{thead}<tbody>{lines}</tbody></table></div>"


def reading(heading: str, texts: Mapping[str, str]) -> str:
    """Texts of the data to be read, each under its name; they are escaped, so shown and never run."""
    shown = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text) or '<em>empty</em>'}</dd>" for name, text in texts.items()
    )
    return f"<article><h4>{escape(heading)}</h4><dl>{shown}</dl></article>"


STYLE = """
:root {
  color-scheme: light dark;
  --ink: #22221f; --soft: #66655f; --line: #e3e1da; --page: #faf9f6; --card: #fff;
  --mend: #b3361f; --look: #8a6000; --fine: #3b7a4b; --bar: #2a78d6;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e5e0; --soft: #a3a29b; --line: #34363b; --page: #141518; --card: #1d1f23;
    --mend: #f0876f; --look: #d6a53a; --fine: #6cbc82; --bar: #5ba3f5;
  }
}
* { box-sizing: border-box }
html { scroll-padding-top: 16px; -webkit-text-size-adjust: 100% }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; overflow-wrap: anywhere }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px }
h2 { font-size: 20px; margin: 44px 0 4px }
h3 { font-size: 16px; margin: 0 }
section > h3 { margin: 28px 0 4px; font-size: 17px }
h4 { font-size: 13px; margin: 0 0 4px; color: var(--soft); font-weight: 600 }
p { margin: 6px 0; max-width: 75ch }
.lead, small, dt, summary, figcaption { color: var(--soft) }

.card, figure {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px 18px;
}
.card { margin: 12px 0 }
.card.fine, .card.look, .card.mend { border-left: 4px solid var(--fine) }
.card.look { border-left-color: var(--look) }
.card.mend { border-left-color: var(--mend) }
.card > h3 { display: flex; justify-content: space-between; gap: 16px; align-items: baseline }
.tag { font-size: 12px; font-weight: 600; color: var(--fine); white-space: nowrap }
.look .tag { color: var(--look) }
.mend .tag { color: var(--mend) }
.count { font-size: 20px; font-variant-numeric: tabular-nums; margin: 2px 0 }

table { border-collapse: collapse; margin: 8px 0; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: 400; color: var(--soft); padding: 3px 18px 3px 0; vertical-align: top }
td { padding: 3px 0 }
.wide { overflow-x: auto }
.wide table { margin: 0 }
.numbers th, .numbers td { white-space: nowrap; padding: 5px 22px 5px 0 }
.numbers th:last-child, .numbers td:last-child { padding-right: 0 }
.numbers td, .numbers thead th:not(:first-child) { text-align: right }
.numbers tbody tr + tr, .numbers thead + tbody tr { border-top: 1px solid var(--line) }
.numbers tbody th {
  color: var(--ink); white-space: normal; overflow-wrap: break-word; min-width: 9em; max-width: 26em;
}
.two th, .two td { white-space: normal }
.bars { width: 100% }
.bars .n { text-align: right; padding-right: 14px; white-space: nowrap }
.bars .w { width: 55% }
.bar { height: 14px; background: var(--bar); border-radius: 3px; min-width: 2px }

.facts { display: flex; flex-wrap: wrap; gap: 12px 40px; margin: 16px 0 }
.facts dd { font-size: 24px; line-height: 1.25; font-variant-numeric: tabular-nums }
.facts dt, .facts small { display: block; font-size: 13px; line-height: 1.4 }
.tables { display: flex; flex-wrap: wrap; gap: 0 16px; align-items: flex-start }
.tables .card { max-width: 100% }
.plots {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 16px;
  margin: 12px 0;
}
figure { margin: 0; break-inside: avoid }
picture, img { display: block }
img { width: 100%; height: auto }
figcaption { font-size: 13.5px; line-height: 1.45; margin-top: 10px }

details { margin-top: 8px }
summary { cursor: pointer }
article { border-top: 1px solid var(--line); padding: 10px 0 }
h3 + article, .card > article:first-child { border-top: 0 }
dl { margin: 0; display: grid; grid-template-columns: 72px minmax(0, 1fr); gap: 2px 12px }
dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere }

nav { font-size: 14px }
nav ol { list-style: none; margin: 0; padding: 0 }
nav a { color: var(--soft); text-decoration: none }
nav a:hover, nav a:focus { color: var(--ink); text-decoration: underline }
@media screen and (min-width: 1200px) {
  .contents { display: grid; grid-template-columns: 240px minmax(0, 1fr) }
  .contents main { width: 100% }
  nav {
    position: sticky; top: 0; align-self: start; max-height: 100vh; overflow-y: auto;
    padding: 40px 0 40px 24px;
  }
  nav li { padding: 3px 0 }
  nav .level3 { padding-left: 14px; font-size: 13px }
}
@media screen and (max-width: 1199px) {
  nav { padding: 16px 20px 0 }
  nav ol { display: flex; flex-wrap: wrap; gap: 4px 16px }
}
@media screen and (max-width: 600px) {
  main { padding: 20px 14px 48px }
  nav { padding: 14px 14px 0 }
  h1 { font-size: 22px }
  .card, figure { padding: 12px }
  .numbers th, .numbers td { padding-right: 12px; font-size: 14px }
  .numbers tbody th { min-width: 8em; max-width: 14em }
  dl { grid-template-columns: minmax(0, 1fr) }
  dt { margin-top: 6px; font-size: 13px }
}
@media print {
  body { font-size: 10pt; background: #fff }
  main { max-width: none; padding: 0 }
  nav { display: none }
  .wide { overflow: visible }
  .numbers th, .numbers td { white-space: normal; padding-right: 8px; min-width: 0; font-size: 8pt }
  .plots { grid-template-columns: 1fr 1fr }
  .card { border-radius: 0 }
  h2, h3 { break-after: avoid }
}
"""
