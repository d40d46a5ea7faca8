"""`python -m bench.draw [RESULTS.json…]`: the figures of docs/performance.md, and its plots.

Of every workload and contestant: the median of its rounds, the least and the most; and its ratio
to yak's, as the median of the ratios of each round.  Of lives.py and growth.py, what is in their
files (--lives, --growth).  The page's text between its markers is made anew; all else in it stays.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.figure import Figure

from bench.job import WORKLOADS

PAGE: Final = Path("docs/performance.md")
_PICTURES: Final = Path("docs/performance")
_BEGIN: Final = "<!-- figures: made by `python -m bench.draw` -->"
_END: Final = "<!-- end of the figures -->"
_OURS: Final = "#d1495b"
_THEIRS: Final = "#6c8ead"
_TITLES: Final = {one.name: one.title for one in WORKLOADS}


@dataclass(frozen=True)
class Summary:
    """Of one contestant in one workload.  ratio: yak's figure by this one's."""

    contestant: str
    runs: int
    rate: float
    least: float
    most: float
    per_cpu_second: float
    memory_mib: float
    latency_ms: Mapping[str, float]
    ratio: float | None
    busy: int
    others_cores: float


_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command()
@click.argument("results", nargs=-1, required=True, type=_FILE)
@click.option("--lives", type=_FILE, help="What `python -m bench.lives` wrote.")
@click.option("--growth", type=_FILE, help="What `python -m bench.growth` wrote.")
def main(results: tuple[Path, ...], lives: Path | None, growth: Path | None) -> None:
    """Write the page's figures and the plots anew."""
    documents = [json.loads(path.read_text()) for path in results]
    rows = [row for document in documents for row in document["rows"]]
    parts = [_about(documents[0]["about"])]
    for workload in _TITLES:
        found = summaries([row for row in rows if row["workload"] == workload])
        if found:
            parts.append(_section(workload, found))
            _draw(workload, found)
    if lives is not None:
        parts.append(_lives(json.loads(lives.read_text())))
    if growth is not None:
        parts.append(_growth(json.loads(growth.read_text())))
    _write("\n\n".join(parts))


def summaries(rows: Sequence[Mapping[str, Any]]) -> list[Summary]:
    """Of one workload's rows, in the order in which the contestants came."""
    contestants = list(dict.fromkeys(row["contestant"] for row in rows))
    ours = next((one for one in contestants if one.startswith("yak/")), None)
    return [_summary(one, rows, ours) for one in contestants]


def _summary(contestant: str, rows: Sequence[Mapping[str, Any]], ours: str | None) -> Summary:
    runs = [row for row in rows if row["contestant"] == contestant]
    rates = [row["rate"] for row in runs]
    latencies = {
        name: statistics.median(row["latency_ms"][name] for row in runs)
        for name in ("p50", "p99", "p99.9")
        if all(row["latency_ms"] for row in runs)
    }
    cpu = [row["records"] / (row["clients_cpu"] + row["servers_cpu"]) for row in runs]
    return Summary(
        contestant,
        len(runs),
        statistics.median(rates),
        min(rates),
        max(rates),
        statistics.median(cpu),
        statistics.median(row["memory_mib"] for row in runs),
        latencies,
        None if ours in (None, contestant) else _ratio(rows, ours or "", contestant),
        sum(not row["quiet"] for row in runs),
        max(row["others_cores"] for row in runs),
    )


def _ratio(rows: Iterable[Mapping[str, Any]], ours: str, theirs: str) -> float | None:
    """Of rates, or of median latencies where there are any: there less is more."""
    rates: dict[tuple[str, int], float] = {
        (row["contestant"], row["round"]): row["latency_ms"].get("p50", row["rate"]) for row in rows
    }
    both = [
        rates[ours, number] / rate
        for (contestant, number), rate in rates.items()
        if contestant == theirs and (ours, number) in rates
    ]
    return statistics.median(both) if both else None


# -- words ----------------------------------------------------------------------------------------


def _about(about: Mapping[str, Any]) -> str:
    systems = ", ".join(f"{name} {version}" for name, version in about["systems"].items())
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items())
    return (
        f"{about['when']}; {about['machine']}; Python {about['python']}; {systems}; {libraries}; "
        f"{about['rounds']} rounds."
    )


def _section(workload: str, found: Sequence[Summary]) -> str:
    timed = all(one.latency_ms for one in found)
    compared = "yak's p50 is" if timed else "yak is"
    header = f"| contestant | records/s | least to most | {compared} | records per CPU second |"
    header += " p50 | p99 | p99.9 ms |" if timed else ""
    lines = [f"### {_TITLES[workload]}", "", header, "|---|---|---|---|---|" + "---|" * 3 * timed]
    for one in found:
        ratio = "" if one.ratio is None else f"{one.ratio:.2g}x"
        line = f"| {one.contestant} | {one.rate:,.0f} | {one.least:,.0f} to {one.most:,.0f} "
        line += f"| {ratio} | {one.per_cpu_second:,.0f} |"
        if timed:
            line += "".join(f" {one.latency_ms[name]:.2f} |" for name in ("p50", "p99", "p99.9"))
        lines.append(line)
    busy = sum(one.busy for one in found)
    if busy:
        most = max(one.others_cores for one in found)
        runs = sum(one.runs for one in found)
        lines += [
            "",
            f"In {busy} of {runs} runs others took more than 0.1 cores, {most:.2f} at most.",
        ]
    return "\n".join([*lines, "", f"![{_TITLES[workload]}](performance/{workload}.svg)"])


def _lives(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each life and system: the median of what was measured, the least and the most."""
    lines = ["### A cluster's life", "", "| what | who | median (least to most) |", "|---|---|---|"]
    for life, system in dict.fromkeys((row["life"], row["system"]) for row in rows):
        runs = [row for row in rows if (row["life"], row["system"]) == (life, system)]
        measured = [name for name in runs[0] if name not in ("life", "system", "round")]
        words = [
            f"{name.replace('_', ' ')} {_spread([row[name] for row in runs])}" for name in measured
        ]
        lines.append(f"| {life} | {system} | {'; '.join(words)} |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.4g}" + (f" ({least:,.4g} to {most:,.4g})" if least != most else "")


def _growth(rows: Sequence[Mapping[str, Any]]) -> str:
    parts = ["### Growth", "", "Records a second; in brackets, of the first point's.", ""]
    for curve in dict.fromkeys(row["curve"] for row in rows):
        found = [row for row in rows if row["curve"] == curve]
        points = list(dict.fromkeys(row["at"] for row in found))
        parts += [f"| {curve} | in | out | memory of all servers |", "|---|---|---|---|"]
        curves: dict[str, list[float]] = {"produce": [], "consume": []}
        for at in points:
            here = [row for row in found if row["at"] == at]
            cells = []
            for way, values in curves.items():
                values.append(statistics.median(row[way] for row in here))
                cells.append(f"{values[-1]:,.0f} ({values[-1] / values[0]:.2f})")
            memory = statistics.median(row["memory_mib"] for row in here)
            parts.append(f"| {at:,} | {cells[0]} | {cells[1]} | {memory:,.0f} MiB |")
        _draw_growth(curve, points, curves)
        parts += ["", f"![{curve}](performance/growth-{curve}.svg)", ""]
    return "\n".join(parts).rstrip()


def _write(text: str) -> None:
    page = PAGE.read_text()
    head, _, rest = page.partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    PAGE.write_text(f"{head}{_BEGIN}\n\n{text}\n\n{_END}{tail}")


# -- pictures -------------------------------------------------------------------------------------


def _draw(workload: str, found: Sequence[Summary]) -> None:
    timed = all(one.latency_ms for one in found)
    ranked = sorted(found, key=lambda one: one.latency_ms["p50"] if timed else one.rate)
    values = [one.latency_ms["p50"] if timed else one.rate for one in ranked]
    if timed:
        spread = [
            [0.0] * len(ranked),
            [one.latency_ms["p99"] - one.latency_ms["p50"] for one in ranked],
        ]
    else:
        spread = [
            [one.rate - one.least for one in ranked],
            [one.most - one.rate for one in ranked],
        ]
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(ranked) + 1.2), layout="constrained")
    colours = [_OURS if one.contestant.startswith("yak/") else _THEIRS for one in ranked]
    axes.barh([one.contestant for one in ranked], values, xerr=spread, color=colours, capsize=3)
    axes.set_xscale("log")
    axes.set_xlabel("ms from send to the consumer: p50, and up to p99" if timed else "records/s")
    axes.set_title(_TITLES[workload])
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, workload)


def _draw_growth(curve: str, points: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
    figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
    for (way, values), colour in zip(curves.items(), (_OURS, _THEIRS), strict=True):
        axes.plot(
            [max(1, at) for at in points],
            [value / values[0] for value in values],
            marker="o", color=colour, label="in" if way == "produce" else "out",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.axhline(0.8, color="#999999", linewidth=0.8, linestyle=":")
    axes.set_xlabel(curve)
    axes.set_ylabel("rate, of the first")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, f"growth-{curve}")


def _save(figure: Figure, name: str) -> None:
    _PICTURES.mkdir(parents=True, exist_ok=True)
    for kind in ("svg", "png"):
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(_PICTURES / f"{name}.{kind}", dpi=110, metadata=metadata)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
