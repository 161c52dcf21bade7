"""``hindsight compare``: which of two segments is better, answered by people or by a teacher."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hindsight_rl.cli.errors import command_parser, parse, run
from hindsight_rl.importing import importing

if TYPE_CHECKING:
    from torch import Tensor

    from hindsight_rl.logs.log import Log
    from hindsight_rl.logs.preferences import Preferences

_EXAMPLES = """\
examples:
  hindsight compare --data.source log.npz --pairs 50 --page compare.html
  hindsight compare --data.source log.npz --answers answers.json
  hindsight compare --data.source log.npz --pairs 50 --active runs/reward/checkpoints/last.ckpt
  hindsight compare --data.source log.npz --pairs 500 --teacher return --beta 2 --mistakes 0.1
  hindsight fit --config reward_model --data.source log.npz --data.preferences preferences.npz

A page of pairs is written, to be opened in a browser and clicked; it saves a file of answers, which
--answers appends to --output. A file of preferences is about one log and one length of segments. A
teacher sees the rewards of the log, and answers at once: it is for trying a method whose result can
then be judged by them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight compare``.

    Args:
        argv: Words after ``compare``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 done, 2 a mistake of the caller.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    given = parse(_parser(), argv)
    # torch, behind these, would make `--help` slow.
    with importing():
        from hindsight_rl.logs.preferences import joined, read_preferences
        from hindsight_rl.logs.reading import read_log

    _check(given)
    log = read_log(given.source, given.columns)
    known = read_preferences(given.output, log) if given.output.exists() else None
    if given.length is None:
        given.length = 50 if known is None else known.length
    count = 0 if known is None else len(known)
    if given.answers is None and given.teacher is None:
        return _ask(log, given, known)
    if given.answers is not None:
        from hindsight_rl.logs.answers import read_answers

        found = read_answers(given.answers, log, annotator=given.annotator)
    else:
        found = _taught(log, given, count)
    if known is not None:
        found = joined(known, found, given.output)
    found.save(given.output)
    sys.stdout.write(f"{given.output}: {_said(found, count)}\n")
    return 0


def _check(given: argparse.Namespace) -> None:
    for name in ("pairs", "pool"):
        if getattr(given, name) < 1:
            raise ValueError(f"--{name} {getattr(given, name)}: at least 1")
    if given.answers is not None and given.teacher is not None:
        raise ValueError("--answers and --teacher both answer: give one of them")
    if given.active is not None and (given.answers or given.teacher):
        raise ValueError("--active chooses pairs for a page: leave out --answers and --teacher")


def _ask(log: "Log", given: argparse.Namespace, known: "Preferences | None") -> int:
    """Write a page of pairs that nobody was asked about."""
    from hindsight_rl.files import write_text
    from hindsight_rl.reports.pairs import page

    rows = _unasked(log, given, known)
    write_text(given.page, page(log, rows, given.length, annotator=given.annotator))
    words = ["--data.source", given.source]
    words += [] if given.columns is None else ["--data.columns", given.columns]
    words += ["--answers", "FILE", "--output", str(given.output)]
    sys.stdout.write(
        f"{given.page}: {len(rows):,} pairs of {given.length} steps. Open it in a browser, answer, "
        f"save, and append the answers: hindsight compare {shlex.join(words)}\n"
    )
    return 0


def _unasked(log: "Log", given: argparse.Namespace, known: "Preferences | None") -> "Tensor":
    """Return pairs ``[M, 2]`` of which there is no answer, drawn or those a model doubts most."""
    import torch

    from hindsight_rl.logs.segments import draw_pairs

    pool = given.pairs * (1 if given.active is None else given.pool)
    asked = set() if known is None else {tuple(sorted(pair)) for pair in known.rows(log).tolist()}
    drawn = draw_pairs(log, given.length, pool + len(asked), seed=given.seed).tolist()
    fresh: dict[tuple[int, ...], list[int]] = {}
    for pair in drawn:
        if (name := tuple(sorted(pair))) not in asked:
            fresh.setdefault(name, pair)
    rows = torch.tensor(list(fresh.values())[:pool], dtype=torch.int64).reshape(-1, 2)
    if not len(rows):
        raise ValueError("every pair that was drawn is answered: give another --seed, or --length")
    return rows if given.active is None else rows[_doubt(log, rows, given)[: given.pairs]]


def _doubt(log: "Log", rows: "Tensor", given: argparse.Namespace) -> "Tensor":
    """Return the numbers of pairs from the one that a model's members disagree on most."""
    import torch

    from hindsight_rl.maths.preferences import disagreement, segment_sum
    from hindsight_rl.relabel.learned_reward import LearnedReward

    # Whatever its accuracy: where it is low, further answers are what is missing.
    reward = LearnedReward(given.active, least_accuracy=0.0)
    members = reward.checked(log)
    if len(members) < 2:
        raise ValueError(
            f"--active {given.active}: one reward alone cannot disagree. Give a checkpoint of a "
            "RewardModel with several members, or leave out --active"
        )
    steps = members[:, rows.unsqueeze(-1) + torch.arange(given.length)]
    sums = segment_sum(steps, getattr(reward.model, "discount", 1.0))
    return disagreement(sums[..., 1] - sums[..., 0]).argsort(descending=True, stable=True)


def _taught(log: "Log", given: argparse.Namespace, first: int) -> "Preferences":
    """Return the answers of a teacher about pairs that were not asked before."""
    import torch

    from hindsight_rl.logs.preferences import Preferences
    from hindsight_rl.logs.segments import draw_pairs, places, segment_returns
    from hindsight_rl.maths.draws import counters, fork, uniforms
    from hindsight_rl.maths.preferences import teacher_label

    rows = draw_pairs(log, given.length, given.pairs, seed=given.seed, first=first)
    score = segment_returns(log, rows, given.length)
    number = torch.arange(first, first + given.pairs)
    zero = torch.zeros(1, dtype=torch.int64)
    chance = uniforms(fork(counters(given.seed, zero, number), "teacher")[0], 2)
    label = teacher_label(
        score[:, 1] - score[:, 0],
        chance,
        beta=given.beta,
        mistakes=given.mistakes,
        ties=given.ties,
    )
    return Preferences(
        log.hash(),
        given.length,
        *places(log, rows),
        label.float(),
        score.float(),
        (given.annotator or f"teacher {given.teacher}",) * given.pairs,
        ("",) * given.pairs,
    )


def _said(found: "Preferences", known: int) -> str:
    ties = int((found.label == 0.5).sum())
    new = len(found) - known
    text = f"{len(found):,} answers about segments of {found.length} steps"
    text += f", {new:,} of them new" if known else ""
    text += f", {ties:,} tie{'s' * (ties > 1)}" if ties else ""
    if ties == len(found):
        text += ": they say nothing about what is better. Compare longer segments"
    return text


def _parser() -> argparse.ArgumentParser:
    about = "Compare segments of a log in pairs: which of the two is better?"
    parser = command_parser("compare", about, _EXAMPLES)
    add: Any = parser.add_argument
    add("--data.source", dest="source", required=True, metavar="LOG", help="the log")
    add(
        "--data.columns",
        dest="columns",
        metavar="MAP",
        help="column map: a YAML file, the name of a packaged one, or '{observation: obs}'",
    )
    add("--pairs", type=int, default=50, metavar="N", help="how many pairs; default 50")
    add(
        "--length",
        type=int,
        metavar="L",
        help="steps of a segment; default: those of the answers in --output, or else 50",
    )
    add(
        "--output",
        type=Path,
        default=Path("preferences.npz"),
        metavar="FILE",
        help="where answers are appended; default preferences.npz",
    )
    add(
        "--teacher",
        choices=("return",),
        help="answer at once by the sums of the log's rewards",
    )
    add("--answers", type=Path, metavar="JSON", help="append answers that a page saved")
    add(
        "--page",
        type=Path,
        default=Path("compare.html"),
        metavar="HTML",
        help="the page of pairs to write; default compare.html",
    )
    add(
        "--active",
        type=Path,
        metavar="CKPT",
        help="ask about the pairs that the members of this RewardModel disagree on most",
    )
    add("--pool", type=int, default=20, metavar="N", help="pairs looked at for one; default 20")
    add(
        "--beta",
        type=float,
        default=float("inf"),
        help="the second segment wins with probability sigma(beta * difference of returns); "
        "default: always the better one",
    )
    add("--mistakes", type=float, default=0.0, help="share of opposite answers; default 0")
    add("--ties", type=float, default=0.0, help="returns this close are a tie; default 0")
    add("--annotator", default="", metavar="NAME", help="who answers")
    add("--seed", type=int, default=0, help="of the pairs and of a teacher's chance; default 0")
    return parser
