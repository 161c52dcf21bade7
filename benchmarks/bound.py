"""Where the two steps raise the bound of the log return, and where it is no bound.

    python benchmarks/bound.py

Prints the tables of docs/bound.md, puts them there, and draws docs/bound.svg. Three actions with
the rewards 1, 2 and 4 are alternated exactly; a log of four states is alternated by a learner, as
``Bound`` sees it. Takes seconds; nothing is drawn at random.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.bound import Measured, measure
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.bound import normalized, row_bound
from hindsight_rl.maths.divergences import categorical_kl
from hindsight_rl.maths.losses import return_bound
from hindsight_rl.nets.network import Network

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))
matplotlib.use("Agg")
import documents  # noqa: E402
import matplotlib.pyplot as plt  # noqa: E402

DOCS = ROOT / "docs"
START = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
REWARD = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
ROUNDS, STEPS, LOOK = 8, 20, 5
BLUE, RED, GREY, GREEN = "#0000a7", "#c1272d", "#8a8a8a", "#008176"
Rows = list[Sequence[str | float]]


def log_return(policy: Tensor) -> float:
    """Return log J of a policy of the three actions."""
    return float((policy * REWARD).sum().log())


def alternate(worth: Callable[[Tensor], Tensor]) -> Rows:
    """Alternate on the three actions, by the rewards that a data step believes in.

    Args:
        worth: Returns them for a policy.

    Returns:
        For each round: its number, F after the data step, F after the policy step, log J.
    """
    policy, rows = START, []
    for number in range(ROUNDS):
        reward = worth(policy)
        q = normalized(policy * reward)
        after_data = float(return_bound(policy.log(), reward, q))
        rows.append([number, after_data, float(return_bound(q.log(), reward, q)), log_return(q)])
        policy = q
    return rows


def standardized(policy: Tensor) -> Tensor:
    """Return exp(z), z the advantage in standard deviations under the policy, and 1e-5 (AWR)."""
    mean = (policy * REWARD).sum()
    spread = (policy * (REWARD - mean).square()).sum().sqrt()
    return ((REWARD - mean) / (spread + 1e-5)).exp()


def off_policy(known: bool) -> Rows:
    """Alternate on ten rows that a policy of .7, .2, .1 drew, with or without dividing by it.

    Args:
        known: Whether it is divided by.

    Returns:
        For each round: its number, F after the data step, log J.
    """
    acted = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    action = torch.arange(3).repeat_interleave(torch.tensor([7, 2, 1]))
    policy, rows = acted, []
    for number in range(ROUNDS):
        ratio = policy / acted if known else policy
        weight = (ratio * REWARD)[action]
        bound = row_bound(ratio.log()[action], REWARD[action], weight)
        policy = torch.zeros_like(policy).index_add(0, action, normalized(weight))
        rows.append([number, float(bound.value), log_return(policy)])
    return rows


# --- four states ----------------------------------------------------------------------------------


def four_states() -> Log:
    """Return 48 steps in four states by a policy of 1/2, 1/4, 1/4; rewards 1 to 6."""
    state = torch.arange(4).repeat_interleave(12)
    action = torch.tensor([0] * 6 + [1] * 3 + [2] * 3).repeat(4)
    acted = torch.tensor([0.5, 0.25, 0.25])
    worth = torch.tensor([[1.0, 2.0, 4.0], [6.0, 1.0, 2.0], [1.0, 5.0, 1.0], [3.0, 2.0, 1.0]])
    observation = torch.nn.functional.one_hot(state, 4).float()
    ended = torch.ones(48, dtype=torch.bool)
    columns: dict[Any, Tensor] = {
        "observation": observation,
        "action": action,
        "action_log_prob": acted.log()[action],
        "episode": torch.arange(48),
        ("next", "observation"): observation,
        ("next", "reward"): worth[state, action],
        ("next", "terminated"): ended,
        ("next", "truncated"): ~ended,
    }
    return Log.from_columns(columns, {"discrete_actions": 3})


def learn() -> tuple[list[tuple[float, Measured]], Rows]:
    """Alternate with cloning of weighted rows: some gradient steps in place of the best policy.

    Returns:
        What ``measure`` finds, with the number of rounds done, and for each round: its number, F
        after the data step, F after the policy step, log J, KL from the q before, sample size.
    """
    log, found, rows = four_states(), [], []
    weight, last = torch.ones(len(log)), None
    data = OfflineDataModule(log.with_columns({"weight": weight}))
    torch.manual_seed(0)
    learner = BC(data.spec, network=Network(hidden=()))
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.03)
    for number in range(ROUNDS):
        batch = data.on_after_batch_transfer(next(data.in_order()), 0)[0]
        with torch.no_grad():
            log_prob = learner.actor.log_prob(batch["observation"], batch["action"])
        weight = batch["next", "reward"] * (log_prob - batch["action_log_prob"]).exp()
        data = OfflineDataModule(log.with_columns({"weight": weight}))
        batch = batch.set("weight", weight)
        first = measure(learner, data, reward="next.reward")
        found.append((float(number), first))
        for step in range(1, STEPS + 1):
            optimizer.zero_grad()
            learner.losses(batch).terms["actor"].backward()
            optimizer.step()
            if step % LOOK == 0:
                seen = measure(learner, data, reward="next.reward")
                found.append((number + step / STEPS, seen))
        kl = "" if last is None else float(categorical_kl(first.q, last.q.log()))
        rows.append(
            [number, first.bound.value, seen.bound.value, seen.bound.limit, kl]
            + [first.effective_sample_size]
        )
        last = first
    return found, rows


# --- the page -------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Rows) -> str:
    """Return a table in Markdown, numbers with four digits."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [c if isinstance(c, str | int) else f"{float(c):.4f}" for c in row]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def stairs(rows: Rows) -> tuple[list[float], list[float]]:
    """Return rounds and F after each half step."""
    at = [number for row in rows for number in (float(row[0]), row[0] + 1)]
    return at, [value for row in rows for value in row[1:3]]


def draw(exact: Rows, learned: list[tuple[float, Measured]], wrong: dict[str, Rows]) -> None:
    """Draw the four pictures."""
    figure, axes = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    rounds = range(1, ROUNDS + 1)
    one, two, three, four = axes.flat
    one.set_title("three actions, exact steps")
    one.plot(*stairs(exact), color=RED, marker=".", label="F after each step")
    one.plot(rounds, [row[3] for row in exact], color=BLUE, linestyle="--", label="log J")
    two.set_title("four states, 20 gradient steps a round")
    at = [number for number, _ in learned]
    for name, colour in (("value", RED), ("limit", BLUE), ("log_reward", GREEN)):
        values = [float(getattr(seen.bound, name)) for _, seen in learned]
        label = {"value": "F", "limit": "log J", "log_reward": "$E_q$[log R]"}[name]
        two.plot(at, values, color=colour, linestyle="--" if name == "limit" else "-", label=label)
    three.set_title("rewards that are not R")
    for (name, rows), colour in zip(list(wrong.items())[:3], (GREY, GREEN, RED), strict=True):
        three.plot(rounds, [row[1] for row in rows], color=colour, label=f"F, {name}")
        three.plot(rounds, [row[-1] for row in rows], color=colour, linestyle="--")
    three.set_ylim(-0.1, 3.5)  # room for the legend
    four.set_title("rows of another policy")
    for (name, rows), colour in zip(list(wrong.items())[3:], (BLUE, RED), strict=True):
        four.plot(rounds, [row[1] for row in rows], color=colour, label=f"F, {name}")
        four.plot(rounds, [row[-1] for row in rows], color=colour, linestyle="--")
    for panel in axes.flat:
        panel.set_xlabel("round")
        panel.set_ylabel("nats")
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=7)
    with plt.rc_context({"svg.hashsalt": "bound"}):
        figure.savefig(DOCS / "bound.svg", metadata={"Date": None})


def main() -> None:
    """Alternate, print, write and draw."""
    exact = alternate(lambda policy: REWARD)
    learned, rounds = learn()
    wrong = {
        "R + 10": alternate(lambda policy: REWARD + 10),
        "R capped at 2": alternate(lambda policy: REWARD.clamp(max=2.0)),
        "exp of standardised R": alternate(standardized),
        "b known": off_policy(True),
        "b taken as 1": off_policy(False),
    }
    head = ["round", "F after the data step", "F after the policy step", "log J after it"]
    ends = [
        [name, rows[0][1], rows[-1][1], rows[0][-1], rows[-1][-1]] for name, rows in wrong.items()
    ]
    last = f"round {ROUNDS - 1}"
    texts = {
        "exact": table(head, exact),
        "learned": table([*head, "KL(q, q before)", "effective sample size"], rounds),
        "wrong": table(
            ["", "F in round 0", f"F in {last}", "log J in round 0", f"in {last}"], ends
        ),
    }
    page = DOCS / "bound.md"
    for name, text in texts.items():
        print(f"{name}\n{text}\n")
        page.write_text(documents.placed(page, name, text), encoding="utf-8")
    draw(exact, learned, wrong)


if __name__ == "__main__":
    main()
