"""Why CQL, TD3+BC and IQL are weak on some logs: one setting at a time, then what follows.

    python benchmarks/course/narrow.py [--choose] [--rows TEXT] [--document]

``--choose`` fits every setting below with seeds 100 and 101 on the evaluation episodes; without it
those that are reported are fitted with seeds 0 to 4 on the test episodes, which chose nothing. Rows
are fitted and cached as in results.py, network, batch and rate as there. Pendulum's log lies in
HINDSIGHT_DATA, the others are those of ``make logs``. Writes build/course_narrow_choice.json or
build/course_narrow.json, and the tables of docs/weak.md; ``--document`` writes the tables alone.
"""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
from results import SEEDS, replace_part, summarize, work  # noqa: E402
from rows import LOCOMOTION, MEDIUM, METHODS, REPLAY, SCALED, Log, Method, Relabel, Row  # noqa: E402
from shared import BUILD, CHOICE_SEEDS, ROOT, say, table  # noqa: E402

from hindsight_rl import read_log  # noqa: E402
from hindsight_rl.files import write_text  # noqa: E402
from hindsight_rl.keys import EPISODE, REWARD  # noqa: E402
from hindsight_rl.nets.network import Network  # noqa: E402

PAGE = ROOT / "docs" / "weak.md"
UPDATES = 5_000
# The paper's 2.5 times the share of their level that values have reached after these updates.
SETTLED_WEIGHT = 0.3
NORMED = Network(hidden=(64, 64), critic_norm=True)
FROM_ZERO: Relabel = (("returns.ScaleReward", {"return_range": 1000.0, "from_zero": True}),)


class Try(NamedTuple):
    """A row, what its setting is called, and whether it is fitted with the seeds reported."""

    row: Row
    setting: str
    reported: bool


def robot(name: str, stage: str, relabel: Relabel, updates: int = UPDATES) -> Log:
    """Return one of our logs of a robot: ``medium`` and ``final`` are of one policy each."""
    env = {"halfcheetah": "HalfCheetah-v5", "hopper": "Hopper-v5"}[name]
    title = f"{name} {stage}"
    return Log(title, f"{name}/{stage}-v0", "continuous", updates, env, ours=True, relabel=relabel)


def method(name: str, **model: Any) -> Method:
    """Return a method of rows.py for continuous actions with other arguments."""
    found = next(each for each in METHODS if each.name == name)
    return replace(found, model=LOCOMOTION.get(name, found.model) | model)


def tries() -> list[Try]:
    """Return all rows, in the order of the tables."""
    found = []

    def add(log: Log, one: Method, setting: str, reported: bool = False, **more: Any) -> None:
        found.append(Try(Row(log, one, **more), setting, reported))

    fast = {"learning_rates": {"actor": 1e-3, "temperature": 1e-3}}
    light = {"conservative_weight": 0.1}
    both = ", actor's rate 1e-3, conservative_weight 0.1"
    for words, model in (
        ("", {}),
        (", conservative_weight 0.1", light),
        (", actor's rate 1e-3", fast),
        (both, fast | light),
    ):
        add(REPLAY, method("CQL", **model), f"2,000 updates{words}")
    for log in (REPLAY, MEDIUM):
        for words, model in (("", {}), (", actor's rate 1e-3", fast), (both, fast | light)):
            longer = replace(method("CQL", samples=4, **model), updates=8_000)
            if log is REPLAY or words == ", actor's rate 1e-3":
                add(log, longer, f"8,000 updates{words}")
    spread, zero = (robot("halfcheetah", "medium", each) for each in (SCALED, FROM_ZERO))
    add(zero, method("BC", head="tanh_gaussian"), "clones", True)
    add(spread, method("IQL"), "return_range", True)
    add(zero, method("IQL"), "from_zero", True)
    add(zero, method("IQL", network=NORMED), "from_zero, critic_norm")
    add(zero, method("IQL"), "from_zero, observations as logged", standardised=False)
    for stage in ("medium", "replay"):
        log = robot("halfcheetah", stage, FROM_ZERO)
        for weight in (2.5, SETTLED_WEIGHT):
            chosen = method("TD3+BC", value_weight=weight)
            add(log, chosen, f"value_weight {weight:g}", stage == "medium")
    return found


def check_logs(chosen: list[Try], data: Path) -> None:
    """Check that the logs of all rows are there.

    Raises:
        SystemExit: One is missing.
    """
    for log in dict.fromkeys((each.row.log.file, each.row.log.ours) for each in chosen):
        path = (BUILD / "logs" if log[1] else data) / log[0]
        if not path.exists():
            fix = "run 'make logs' first" if log[1] else "set HINDSIGHT_DATA to the folder of logs"
            sys.stderr.write(f"error: no log {path}: {fix}\n")
            raise SystemExit(2)


def lines_of(
    chosen: list[Try], seeds: tuple[int, ...], data: Path, choose: bool
) -> list[dict[str, Any]]:
    """Fit what is not kept, and return a line for every row."""
    lines = []
    (BUILD / "results").mkdir(parents=True, exist_ok=True)
    for each in chosen:
        found = work((each.row, seeds, data, choose))
        line = summarize(each.row, found)
        numbers = {key: line[key] for key in ("log", "method", "mean", "low", "high", "seconds")}
        about = {"name": f"{each.row.name}, {each.setting}", "setting": each.setting}
        lines.append({**about, **numbers, "seeds": list(seeds), "metrics": found["metrics"]})
        if each.row.log.ours:
            lines[-1]["expected"] = expected(each.row)
        say(f"{lines[-1]['name']}: {line['mean']:.0f} {found['scores']} {found['seconds']:.0f} s")
    return lines


def settled(updates: int, tau: float = 0.005, discount: float = 0.99, delay: int = 1) -> float:
    """Return the share of their level r / (1 - discount) that values have reached.

    A target network that moves by tau at every ``delay``-th update, and a critic that fits its
    targets at once: the distance to the level shrinks by 1 - tau (1 - discount) with every move.
    """
    moves = updates / delay
    return float(1.0 - (1.0 - tau * (1.0 - discount)) ** moves)


def expected(row: Row) -> float:
    """Return the mean value that critics have by then, if they fit their targets: robots only."""
    log = read_log(BUILD / "logs" / row.log.file)
    reward, episode = log.column(REWARD).double(), log.column(EPISODE)
    total = reward.new_zeros(log.episodes).index_add_(0, episode, reward)
    options = dict(row.log.relabel)["returns.ScaleReward"]
    if options.get("from_zero"):
        total = torch.cat([total, total.new_zeros(1)])
    scaled = reward.mean() * options["return_range"] / (total.max() - total.min())
    model = row.method.model
    delay = 2 if row.method.name == "TD3+BC" else 1
    reached = settled(row.method.updates or row.log.updates, model.get("tau", 0.005), delay=delay)
    return float(scaled) / (1.0 - 0.99) * reached


def share(line: dict[str, Any]) -> str:
    """Return the share of a batch that an IQL policy effectively learned from in the end."""
    found = line["metrics"].get("train/actor/effective_sample_size")
    return "" if found is None else f"{100 * found:.0f} %"


def document(lines: list[dict[str, Any]], choose: bool) -> None:
    """Write a table of the page."""
    cells = []
    for line in lines:
        mean = f"{round(line['mean']):,}"
        mean += "" if choose else f" [{line['low']:,.0f}, {line['high']:,.0f}]"
        found, wanted = line["metrics"].get("train/critic/q_max"), line.get("expected")
        values = "" if found is None else f"{found:,.0f}"
        if values and wanted is not None:
            values += f" ({wanted:,.0f})"
        cells.append([line["log"], line["method"], line["setting"], mean, values, share(line)])
    scores = "return, two seeds" if choose else "return, mean [95 %]"
    head = ["log", "method", "setting", scores, "largest value (expected mean)", "effective batch"]
    replace_part(PAGE, "choice" if choose else "reported", table(head, cells))


def document_shares() -> None:
    """Write how far values are after some numbers of updates."""
    numbers = (2_000, 5_000, 10_000, 100_000, 1_000_000)
    lines = [
        [f"{count:,}", *(f"{100 * settled(count, delay=delay):.0f} %" for delay in (1, 2))]
        for count in numbers
    ]
    head = ["updates", "every update (IQL, CQL)", "every second one (TD3+BC)"]
    replace_part(PAGE, "settled", table(head, lines))


def main() -> None:
    """Fit what is not kept, write, document."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = os.environ.get("HINDSIGHT_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of real logs")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many, two or more")
    parser.add_argument("--choose", action="store_true", help="all factors, other seeds")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    parser.add_argument("--document", action="store_true", help="write the tables alone")
    options = parser.parse_args()
    name = "course_narrow_choice.json" if options.choose else "course_narrow.json"
    document_shares()
    if options.document:
        document(json.loads((BUILD / name).read_text()), options.choose)
        return
    chosen = [
        each
        for each in tries()
        if (options.choose or each.reported) and options.rows in f"{each.row.name}, {each.setting}"
    ]
    check_logs(chosen, options.data)
    seeds = CHOICE_SEEDS if options.choose else SEEDS[: options.seeds]
    lines = lines_of(chosen, seeds, options.data, options.choose)
    if not options.rows and (options.choose or len(seeds) == len(SEEDS)):
        write_text(BUILD / name, json.dumps(lines, indent=1))
        document(lines, options.choose)


if __name__ == "__main__":
    main()
