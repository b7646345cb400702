"""How numbers of a run are read: times, rates, shares, amounts."""

from typing import Any

from polykern.amounts import shown

PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
COUNTED = {"bytes": "B", "words": "words", "bit pairs": "bit pairs", "float64": "flop", "float32": "flop"}
HEAD = ("case", "sizes", "dtype", "backend", "median", "p20 .. p80", "memory", "rate", "share of the ceiling")
RIGHT = (4, 5, 6, 7)  # columns that are flush right


def sizes(params: dict[str, Any]) -> str:
    """The sizes of a case in few words."""
    return " ".join(f"{k}={v:,}" if isinstance(v, int) else f"{k}={v}" for k, v in params.items())


def time(ms: float) -> str:
    """A time as a person reads it: 12.3 µs, 4.56 ms, 7.89 s."""
    for unit, scale in (("µs", 1e3), ("ms", 1.0), ("s", 1e-3)):
        if ms * scale < 1000 or unit == "s":
            return f"{_digits(ms * scale)} {unit}"
    raise AssertionError


def rate(a_second: float, unit: str) -> str:
    """A rate as a person reads it: 37.4 GB/s, 48.4 Gwords/s."""
    scale, prefix = next(((s, p) for s, p in PREFIXES if a_second >= s), (1.0, ""))
    counted = COUNTED.get(unit, unit)
    return f"{_digits(a_second / scale)} {prefix}{'' if len(counted) < 3 else ' '}{counted}/s"


def cells(record: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table of a run; the reason stands in the last column where there is no time."""
    named = (record["case"], sizes(record["params"]), record["dtype"], record["backend"])
    reason = next((f"{word}: {record[word]}" for word in ("failed", "skipped") if word in record), None)
    if reason is not None:
        return (*named, "", "", "", "", reason)
    added, line = record.get("added_bytes"), record.get("roofline")
    slowed = f", {len(record['throttled'])} of {len(record['samples_ms'])} throttled" if record["throttled"] else ""
    return (
        *named,
        time(record["median_ms"]),
        f"{time(record['p20_ms'])} .. {time(record['p80_ms'])}",
        "" if added is None else shown(added),
        "" if line is None else rate(line["rate"], line["bound"]),
        ("" if line is None else f"{line['share']:.1%} of {line['bound']}") + slowed,
    )


def _digits(x: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}"
