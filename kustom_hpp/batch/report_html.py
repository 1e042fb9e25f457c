"""The summary of a journal as one HTML file: no scripts, nothing from elsewhere, light and dark, printable."""

import datetime as dt
from collections.abc import Iterable
from html import escape
from typing import Final

from kustom_hpp.batch.outcomes import OutcomeState
from kustom_hpp.batch.report import JournalReport, Period, ResponseTimes
from kustom_hpp.errors import clean_text

_CSS: Final = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#57606a;--line:#d8dee4;--card:#f6f8fa;
--created:#1a7f4b;--failed:#c62f2f;--in_doubt:#9a6700;--to_send:#6e7781;--claimed_elsewhere:#4a61c9;--bar:#2f6fde}
@media(prefers-color-scheme:dark){:root{--bg:#0f1318;--fg:#e6ebf0;--soft:#9aa6b2;--line:#2c343d;--card:#181e25;
--created:#46b97c;--failed:#f0716b;--in_doubt:#dba53a;--to_send:#8b97a3;--claimed_elsewhere:#8fa2ff;--bar:#6aa1ff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:1rem/1.5 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:1.5rem 1rem 3rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.25rem 0 .5rem}
h3{font-size:.95rem;font-weight:600;margin:1rem 0 .25rem}
p{margin:.25rem 0 .5rem}.soft{color:var(--soft);overflow-wrap:anywhere}.small{font-size:.85rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem;margin:1.25rem 0 .75rem}
.tile{background:var(--card);border:1px solid var(--line);border-left:4px solid var(--c,var(--line));border-radius:6px;
padding:.5rem .75rem}.tile b{display:block;font-size:1.5rem;line-height:1.2;font-variant-numeric:tabular-nums}
.share{display:flex;height:12px;border-radius:6px;overflow:hidden;background:var(--line);gap:1px}
.share i{background:var(--c);min-width:2px}
.note{border:1px solid var(--line);border-left:4px solid var(--c);background:var(--card);border-radius:6px;
padding:.6rem .9rem;margin:1rem 0}
.chart{display:flex;align-items:flex-end;gap:1px;height:110px;border-bottom:1px solid var(--soft)}
.chart i{flex:1;background:var(--bar);min-height:1px;border-radius:1px 1px 0 0}
.axis{display:flex;justify-content:space-between;color:var(--soft);font-size:.8rem}
.facts{display:flex;flex-wrap:wrap;gap:.25rem 1.5rem;margin:.25rem 0 .75rem}
.facts b{font-variant-numeric:tabular-nums}
.hist{display:grid;grid-template-columns:max-content 1fr max-content;gap:.2rem .6rem;align-items:center;font-size:.9rem}
.hist i{display:block;height:14px;background:var(--bar);border-radius:2px;min-width:1px}
.hist span{font-variant-numeric:tabular-nums;text-align:right}
table{width:100%;table-layout:fixed;border-collapse:collapse;font-size:.92rem}
th{text-align:left;color:var(--soft);font-weight:600;border-bottom:1px solid var(--line);padding:.35rem .75rem .35rem 0}
td{vertical-align:top;border-bottom:1px solid var(--line);padding:.45rem .75rem .45rem 0;overflow-wrap:anywhere}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
code{font:.88em ui-monospace,monospace;background:var(--card);padding:.1em .3em;border-radius:3px;overflow-wrap:anywhere}
@media(max-width:40rem){.tile:first-child{grid-column:1/-1}table,tbody{display:block}thead,col{display:none}
tr{display:block;border-bottom:1px solid var(--line);padding:.5rem 0}
td,td.n{display:grid;grid-template-columns:5.5rem minmax(0,1fr);gap:.5rem;border:0;padding:.1rem 0;text-align:left}
td::before{content:attr(data-label);color:var(--soft)}}
@media print{html{font-size:10px}main{max-width:none;padding:0}tr,.tile,.note,.period,.hist{break-inside:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}h2,.facts,section>p{break-after:avoid}}
"""

_LABELS: Final = {
    OutcomeState.CREATED: "created",
    OutcomeState.FAILED: "refused",
    OutcomeState.IN_DOUBT: "in doubt",
    OutcomeState.CLAIMED_ELSEWHERE: "being sent",
}


def render_html(report: JournalReport, *, title: str, scope: str, now: dt.datetime) -> str:
    """Return the report as one HTML document."""
    body = [
        _header(report, title, scope, now),
        _totals(report),
        _advice(report),
        _rates(report.periods),
        _response_times(report.response_times),
        _failures(report),
        _doubts(report),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="robots" content="noindex">'
        f"<title>Journal report: {_text(title)}</title><style>{_CSS}</style></head>\n"
        f"<body><main>\n{''.join(part for part in body if part)}</main></body></html>\n"
    )


def _text(value: object) -> str:
    return escape(clean_text(str(value)))


def _header(report: JournalReport, title: str, scope: str, now: dt.datetime) -> str:
    span = "The journal has no rows."
    if report.first is not None and report.last is not None:
        span = f"Rows changed from {_time(report.first)} to {_time(report.last)}."
    return (
        f"<header><h1>Journal report</h1>"
        f'<p class="soft"><code>{_text(title)}</code> &middot; {_text(scope)}</p>'
        f'<p class="soft small">{span} Report made at {_time(now)}.</p></header>\n'
    )


def _time(moment: dt.datetime) -> str:
    return f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"


def _totals(report: JournalReport) -> str:
    counts = [(str(state), _LABELS[state], report.states[state]) for state in OutcomeState]
    counts = [each for each in counts if each[2] or each[0] != OutcomeState.CLAIMED_ELSEWHERE]
    counts.append(("to_send", "to send", report.to_send))
    tiles = [_tile("", "rows", report.rows), *(_tile(name, label, count) for name, label, count in counts)]
    share = "".join(
        f'<i style="--c:var(--{name});flex:{count}" title="{label}: {count:,}"></i>'
        for name, label, count in counts
        if count
    )
    return f'<section class="tiles">{"".join(tiles)}</section>\n<div class="share">{share}</div>\n'


def _tile(name: str, label: str, count: int) -> str:
    style = f' style="--c:var(--{name})"' if name else ""
    return f'<div class="tile"{style}><b>{count:,}</b>{label}</div>'


def _advice(report: JournalReport) -> str:
    doubts, notes = report.states[OutcomeState.IN_DOUBT], []
    if doubts:
        text = (
            f"<b>{_rows(doubts)} in doubt.</b> Each may have a session that this journal does not know. Create a new order "
            "and a new session for it; the old link was shown to nobody. If you find out how a row ended, record it with "
            "<code>kustom-hpp journal resolve</code>."
        )
        notes.append(("in_doubt", text))
    else:
        notes.append(
            ("created", "<b>No row is in doubt.</b> For every row, this journal knows whether it has a session.")
        )
    if report.to_send:
        notes.append(("to_send", f"<b>{_rows(report.to_send)} to send.</b> Run the batch again: it sends them."))
    if report.resolved:
        notes.append(("line", f"{_rows(report.resolved)} resolved by hand."))
    return "".join(f'<p class="note" style="--c:var(--{name})">{text}</p>' for name, text in notes) + "\n"


def _rows(count: int) -> str:
    return f"{count:,} row is" if count == 1 else f"{count:,} rows are"


def _rates(periods: Iterable[Period]) -> str:
    parts = []
    for period in periods:
        top = max(period.bars)
        bars = "".join(f'<i style="height:{100 * rate / top:.1f}%" title="{rate:.1f}/s"></i>' for rate in period.bars)
        end = period.start + dt.timedelta(seconds=period.seconds)
        parts.append(
            f'<div class="period"><h3>{_time(period.start)}</h3>'
            f'<div class="facts"><span><b>{period.created:,}</b> sessions</span>'
            f"<span>in <b>{dt.timedelta(seconds=period.seconds)}</b></span><span>mean <b>{period.rate:,.1f}/s</b></span>"
            f"<span>busiest second <b>{period.peak:,}</b></span></div>"
            f'<div class="axis"><span>{top:,.1f}/s</span><span>a bar is {_span(period.bar_seconds)}</span></div>'
            f'<div class="chart" role="img" aria-label="Sessions per second, at most {top:,.1f}">{bars}</div>'
            f'<div class="axis"><span>{period.start:%H:%M:%S}</span><span>{end:%H:%M:%S}</span></div></div>\n'
        )
    return f"<section><h2>Sessions per second</h2>\n{''.join(parts)}</section>\n" if parts else ""


def _span(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _response_times(times: ResponseTimes | None) -> str:
    if times is None:
        return ""
    marks = (("median", times.p50), ("90 %", times.p90), ("99 %", times.p99), ("slowest", times.maximum))
    facts = "".join(f"<span>{name} <b>{seconds_text(value)}</b></span>" for name, value in marks)
    most = max(count for _, count in times.histogram)
    lines = "".join(
        f"<span>{'longer' if bound is None else f'up to {seconds_text(bound)}'}</span>"
        f'<i style="width:{100 * count / most:.1f}%"></i><span>{count:,}</span>'
        for bound, count in times.histogram
    )
    return (
        "<section><h2>Response times</h2>"
        '<p class="soft small">From the first attempt to the response, waits between attempts included.</p>'
        f'<div class="facts">{facts}</div><div class="hist">{lines}</div></section>\n'
    )


def seconds_text(seconds: float) -> str:
    """Return a duration as people read it."""
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


def _failures(report: JournalReport) -> str:
    rows = [
        _row(("Code", "", f"<b>{_text(each.code)}</b>"), ("Rows", "n", f"{each.count:,}"),
             ("Error", "", _text(each.example)), ("Next step", "", _text(each.next_step)))
        for each in report.failures
    ]  # fmt: skip
    return _table("Failures by code", {"Code": 20, "Rows": 8, "Error (of one row)": 40, "Next step": 32}, rows)


def _doubts(report: JournalReport) -> str:
    rows = [
        _row(("Key", "", _text(each.key)), ("Order", "", _text(each.order or "(not a KCO order)")),
             ("Since", "", f"{each.since:%Y-%m-%d %H:%M:%S}"), ("Why", "", _text(each.reason)))
        for each in report.doubts
    ]  # fmt: skip
    more = report.states[OutcomeState.IN_DOUBT] - len(report.doubts)
    after = f"<p>And {more:,} more: <code>kustom-hpp journal export</code> has all of them.</p>" if more > 0 else ""
    return _table("Rows in doubt", {"Key": 21, "Order": 30, "Since (UTC)": 17, "Why": 32}, rows, after)


def _row(*cells: tuple[str, str, str]) -> str:
    return (
        "<tr>"
        + "".join(f'<td class="{kind}" data-label="{name}"><span>{text}</span></td>' for name, kind, text in cells)
        + "</tr>\n"
    )


def _table(title: str, widths: dict[str, int], rows: list[str], after: str = "") -> str:
    if not rows:
        return ""
    columns = "".join(f'<col style="width:{width}%">' for width in widths.values())
    head = "".join(f'<th scope="col"{" class=n" if name == "Rows" else ""}>{name}</th>' for name in widths)
    return (
        f"<section><h2>{title}</h2><table><colgroup>{columns}</colgroup><thead><tr>{head}</tr></thead><tbody>\n"
        f"{''.join(rows)}</tbody></table>{after}</section>\n"
    )
