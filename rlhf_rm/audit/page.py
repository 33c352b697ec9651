"""An audit as one self-contained page. Every text of the data is escaped: it is shown, never run."""

from collections.abc import Mapping
from html import escape
from typing import Any

from rlhf_rm.html import document, reading

VERDICTS = {"mend": "mend this", "look": "have a look", "fine": "fine"}


def page(report: Mapping[str, Any], title: str) -> str:
    """The HTML of an audit.

    Args:
        report: see :func:`rlhf_rm.audit.report.audit`.
        title: what was audited.
    """
    findings = report["findings"]
    counted = {name: sum(one["verdict"] == name for one in findings) for name in VERDICTS}
    summary = ", ".join(f"{number} {VERDICTS[name]}" for name, number in counted.items() if number)
    body = [
        f"<h1>{escape(title)}</h1>",
        f"<p class='lead'>{_pairs(report)}. Of {len(findings)} checks: {summary}.</p>",
        _packing(report["packing"]),
        "<h2>Checks</h2>",
        *(_finding(one) for one in findings),
    ]
    return document(title, body)


def _pairs(report: Mapping[str, Any]) -> str:
    pairs = report["pairs"]
    splits = ", ".join(f"{number:,} {escape(name)}" for name, number in pairs.items())
    return f"{sum(pairs.values()):,} pairs ({splits})"


def _packing(packing: Mapping[str, Any]) -> str:
    names = {
        "padded": "padded, 8 pairs a batch",
        "packed": "packed, every response whole",
        "shared": "packed, prefixes shared",
    }
    largest = max(packing[name] for name in names) or 1
    bars = "".join(
        f"<tr><th>{label}</th><td class='n'>{packing[name]:,}</td>"
        f"<td class='w'><div class='bar' style='width:{100 * packing[name] / largest:.1f}%'></div></td></tr>"
        for name, label in names.items()
    )
    return (
        f"<h2>Tokens of an epoch</h2><table class='bars'>{bars}</table>"
        f"<p>{packing['prefix_share']:.0%} of the tokens lie in a prefix that chosen and rejected "
        f"share. Storing it once leaves 1/{packing['gain_over_padded']:.2f} of a padded batch and "
        f"1/{packing['gain_over_packed']:.2f} of a packed one.</p>"
    )


def _finding(finding: Mapping[str, Any]) -> str:
    share = f"{finding['share']:.1%}" if finding["of"] else "–"
    rows = "".join(
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{_value(value)}</td></tr>"
        for name, value in finding["numbers"].items()
    )
    numbers = f"<table>{rows}</table>" if rows else ""
    shown = "".join(_example(one) for one in finding["examples"])
    examples = (
        f"<details><summary>{len(finding['examples'])} of them</summary>{shown}</details>" if shown else ""
    )
    advice = f"<p>{escape(finding['advice'])}</p>" if finding["verdict"] != "fine" else ""
    return (
        f"<section class='card {finding['verdict']}'><h3>{escape(finding['title'])}"
        f"<span class='tag'>{VERDICTS[finding['verdict']]}</span></h3>"
        f"<p class='count'>{finding['count']:,} of {finding['of']:,} <small>({share})</small></p>"
        f"{advice}{numbers}{examples}</section>"
    )


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{escape(str(key))}: {_value(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(_value(one) for one in value) or "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else escape(str(value))


def _example(example: Mapping[str, str]) -> str:
    return reading(example["id"], {name: example[name] for name in ("prompt", "chosen", "rejected")})
