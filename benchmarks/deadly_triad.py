"""Fit the learners of docs/deadly-triad.md, rewrite its tables and draw docs/deadly-triad.svg.

python benchmarks/deadly_triad.py
"""

import functools
import re
from pathlib import Path
from typing import Any

import matplotlib
import torch
import triad

from hindsight_rl.agents.ddpg import DDPG
from hindsight_rl.agents.discrete_bcq import DiscreteBCQ
from hindsight_rl.agents.discrete_cql import DiscreteCQL
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.agents.q_learning import QLearning
from hindsight_rl.agents.td3_bc import TD3BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.files import write_text, write_whole
from hindsight_rl.nets.network import Network

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, PICTURE = DOCS / "deadly-triad.md", DOCS / "deadly-triad.svg"
UPDATES, POINT_UPDATES = 50, 200
WIDE = "`DQN`, 256 and 256 units"
SHOWN = (1, 2, 3, 5, UPDATES)

one_number = functools.partial(triad.thetas, updates=UPDATES)
conservative = functools.partial(one_number, DiscreteCQL, discount=1.0, double=False)


def numbers() -> dict[str, list[float]]:
    """Return theta over the updates, by learner."""
    masked = functools.partial(one_number, DiscreteBCQ, prepare=triad.knows_the_log, huber=None)
    return {
        "`DQN`, discount 1": one_number(DQN, discount=1.0),
        "`DQN`, discount 0.99": one_number(DQN, discount=0.99),
        "`DQN(double=True)`, discount 1": one_number(DQN, discount=1.0, double=True),
        "`DQN`, discount 1, rate 0.1": one_number(DQN, discount=1.0, rate=0.1),
        "`DiscreteBCQ`, discount 1": masked(discount=1.0),
        "`DiscreteCQL(conservative_weight=1)`": conservative(conservative_weight=1.0),
        "`DiscreteCQL(conservative_weight=1.3)`": conservative(conservative_weight=1.3),
        "`DiscreteCQL(conservative_weight=1.4)`": conservative(conservative_weight=1.4),
        "`DiscreteCQL(conservative_weight=5)`": conservative(conservative_weight=5.0),
    }


def table_of_values() -> list[float]:
    """Return Q(s, 1) of a table over the updates, from Q(s, 1) = 1 and Q(s, 2) = 2."""
    data = OfflineDataModule(triad.one_state(1), batch_size=1, updates_per_step=1)
    optimizer = functools.partial(torch.optim.SGD, lr=0.1)
    learner = QLearning(data.spec, initial_value=2.0, discount=0.99, optimizer=optimizer)
    with torch.no_grad():
        learner.critic.value[..., 0] = 1.0
    learner.target_critic.load_state_dict(learner.critic.state_dict())
    track = triad.Track(lambda learner: learner.critic.value[0, 0, 0].item())
    triad.fit(learner, data, UPDATES, track)
    return [1.0, *track.found]


def without() -> dict[str, list[float]]:
    """Return theta over the updates, by what is taken away."""
    return {
        "nothing": one_number(DQN, discount=0.99, rate=0.1),
        "bootstrapping: discount 0": one_number(DQN, discount=0.0, rate=0.1),
        "half of it: discount 0.5": one_number(DQN, discount=0.5, rate=0.1),
        "a log off the policy: it holds action 2": one_number(
            DQN, actions=(2,), discount=0.99, rate=0.1
        ),
        "shared numbers: a table, Q(s, 1)": table_of_values(),
    }


def fitted() -> dict[str, list[float]]:
    """Return theta over the fits, each to its end, by what the log holds."""
    fits = functools.partial(triad.fitted_thetas, fits=UPDATES, discount=0.99)
    return {"both actions": fits(1, 2), "action 2": fits(2), "action 1": fits(1)}


def points() -> dict[str, triad.Watched]:
    """Return what Watch saw on the wandering point, by learner."""
    fitted = functools.partial(triad.watched, updates=POINT_UPDATES)
    discrete, continuous = triad.DISCRETE, triad.CONTINUOUS
    return {
        "`DQN`": fitted(DQN, **discrete, huber=None),
        "`DQN(double=True)`": fitted(DQN, **discrete, huber=None, double=True),
        WIDE: fitted(DQN, **discrete | {"network": Network()}, huber=None),
        "`DiscreteBCQ`": fitted(DiscreteBCQ, **discrete, **triad.CLONED_FIRST, huber=None),
        "`DiscreteCQL`": fitted(DiscreteCQL, **discrete, huber=None),
        "`DDPG`": fitted(DDPG, **continuous),
        "`TD3BC`": fitted(TD3BC, **continuous),
    }


def table(head: list[Any], rows: list[list[Any]]) -> str:
    """Return a table of the page."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def theta_table(first: str, found: dict[str, list[float]]) -> str:
    """Return theta after some numbers of updates."""
    rows = [[name, *(f"{theta[at]:.4g}" for at in SHOWN)] for name, theta in found.items()]
    return table([first, *(f"after {at}" for at in SHOWN)], rows)


def point_table(found: dict[str, triad.Watched]) -> str:
    """Return the largest values beside what no return can exceed, and the update of the warning."""
    rows = []
    for name, seen in found.items():
        at = re.search(r"update (\d+)", seen.said[0]) if seen.said else None
        warned = f"at update {at[1]}" if at else "no"
        rows.append([name, f"{max(seen.q):.3g}", f"{seen.bound:.3g}", warned])
    return table(["learner", "largest abs(Q)", "largest return", "Watch warns"], rows)


def draw(numbers: dict[str, list[float]], points: dict[str, triad.Watched]) -> None:
    """Draw theta, and values as shares of the largest return, over the updates."""
    plt.rcParams["svg.hashsalt"] = "deadly-triad"  # equal results give equal files
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, theta in numbers.items():
        if "double" not in name and "0.99" not in name:
            left.plot(theta, label=name.replace("`", "").replace("conservative_weight=", ""))
    left.set_yscale("symlog", linthresh=1.0)
    left.set_yticks([-1.0, 1.0, 1e5, 1e10, 1e15])
    left.set_ylabel("theta")
    left.set_title("one state, one number", fontsize=9)
    for name, seen in points.items():
        if "double" not in name:
            updates = range(10, POINT_UPDATES + 1, 10)
            right.plot(updates, [q / seen.bound for q in seen.q], label=name.replace("`", ""))
    right.axhline(1.0, color="black", linewidth=0.8, linestyle=":")
    right.set_yscale("log")
    right.set_ylabel("largest |Q| / largest return")
    right.set_title("a wandering point, networks", fontsize=9)
    for axes in (left, right):
        axes.set_xlabel("updates")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=7)
    write_whole(PICTURE, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))


def main() -> None:
    """Fit, draw, rewrite."""
    line, point = numbers(), points()
    draw(line, point)
    parts = {
        "learners": theta_table("learner", line),
        "without": theta_table("taken away", without()),
        "fitted": theta_table("the log holds", fitted()),
        "point": point_table(point),
        "warning": f"> {point['`DDPG`'].said[0]}",
    }
    text = PAGE.read_text(encoding="utf-8")
    for name, part in parts.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- end of {name} -->")
        text = f"{before}<!-- {name} -->\n{part}\n<!-- end of {name} -->{after}"
    write_text(PAGE, text)


if __name__ == "__main__":
    main()
