"""Self-contained pages: no network, no script, one style."""

from collections.abc import Iterable
from html import escape


def document(title: str, body: Iterable[str]) -> str:
    """A whole page.

    Args:
        title: as text; it is escaped here.
        body: HTML, escaped by whoever made it.
    """
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n"
        + "\n".join(body)
        + "\n</main></body></html>\n"
    )


STYLE = """
:root{--ink:#22221f;--soft:#6d6c66;--line:#e3e1da;--page:#faf9f6;--card:#fff;
--mend:#b3361f;--look:#9a6b00;--fine:#3b7a4b;--bar:#2a78d6}
*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:880px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 12px}h3{font-size:16px;margin:0}
h4{font-size:13px;margin:0 0 4px;color:var(--soft);font-weight:600}
.lead{color:var(--soft);margin:0}p{margin:6px 0}small{color:var(--soft)}
section{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--fine);
border-radius:6px;padding:14px 18px;margin:12px 0}
section.mend{border-left-color:var(--mend)}section.look{border-left-color:var(--look)}
h3{display:flex;justify-content:space-between;gap:16px;align-items:baseline}
.tag{font-size:12px;font-weight:600;color:var(--fine);white-space:nowrap}
.mend .tag{color:var(--mend)}.look .tag{color:var(--look)}
.count{font-size:20px;font-variant-numeric:tabular-nums;margin:2px 0}
table{border-collapse:collapse;margin:8px 0;font-variant-numeric:tabular-nums}
th{text-align:left;font-weight:400;color:var(--soft);padding:2px 18px 2px 0;vertical-align:top;
white-space:nowrap}
td{padding:2px 0}.bars{width:100%}.bars .n{text-align:right;padding-right:14px;white-space:nowrap}
.bars .w{width:55%}
.bar{height:14px;background:var(--bar);border-radius:3px;min-width:2px}
details{margin-top:8px}summary{cursor:pointer;color:var(--soft)}
article{border-top:1px solid var(--line);padding:10px 0}
dl{margin:0;display:grid;grid-template-columns:80px 1fr;gap:2px 12px}
img{max-width:100%}.wide{overflow-x:auto}dt{color:var(--soft)}dd{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
"""
