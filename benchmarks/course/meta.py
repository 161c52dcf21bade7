"""Policies that adapt: by inner steps, by a latent vector, by the posterior of inverse RL.

    python benchmarks/course/meta.py [--parts turned hidden bandits] [--seeds 5] [--choose]

Points in a plane. *Turned*: the motors of each robot are turned by an angle that nobody knows, and
a policy is cloned from logs of 32 robots; a new one gives some rows of a demonstration. *Hidden*:
each task pays for being near a goal that nobody names, and SAC, told the goal or not, and PEARL are
fitted to 32 tasks; a new task gives one or two episodes, of wandering or demonstrated. *Bandits*
are arms that must be found out within a trial, see bandits.py. Finished fits are kept in
build/course/; writes build/course_meta.json, with the parts that were run, and their tables of
docs/meta.md.
Settings were chosen with --choose, on seeds that are not reported, but for the number of updates
and the jolts of the demonstrations, which no seed chose. PEARL's longer row was added after its
shorter one was seen.
"""

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import bandits  # noqa: E402
from lightning.pytorch import seed_everything  # noqa: E402
from results import replace_part  # noqa: E402
from shared import (  # noqa: E402
    BUILD,
    CHOICE_SEEDS,
    FIVE_SEEDS,
    ROOT,
    interval,
    quiet,
    say,
    silent_trainer,
    table,
)

from hindsight_rl import BC, MAMLBC, PEARL, SAC, InverseRL, Log, Network, OfflineDataModule  # noqa: E402
from hindsight_rl.files import write_text  # noqa: E402
from hindsight_rl.keys import TASK_ID  # noqa: E402
from hindsight_rl.relabel.inferred_task import inferred_task  # noqa: E402
from hindsight_rl.tasks.family import GoalReaching  # noqa: E402

TASKS, EPISODES, STEPS, SPEED = 32, 6, 25, 0.2
TESTS, STARTS = 10, 20  # new tasks, and episodes of each
ROWS = (0, 5, 10, 25)
JOLT = 0.3  # of what is demonstrated
SMALL = Network(hidden=(64, 64))
Act = Callable[[Tensor], Tensor]


class Played(NamedTuple):
    """Episodes of one task: ``[E, T, ...]``."""

    seen: Tensor
    action: Tensor
    following: Tensor
    reward: Tensor


def drawn(seed: int, *shape: int) -> Tensor:
    """Return numbers uniform on [-1, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def angles(count: int, seed: int) -> Tensor:
    """Return the angles of tasks, all directions alike."""
    return math.pi * drawn(10_000 + seed, count)


def turned(vector: Tensor, angle: Tensor | float) -> Tensor:
    """Return vectors turned by an angle."""
    angle = torch.as_tensor(angle)
    x, y = vector.unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], -1)


def play(
    act: Act,
    count: int,
    seed: int,
    *,
    turn: float = 0.0,
    goal: Tensor | None = None,
    jolt: float = 0.0,
) -> Played:
    """Return episodes from random places; the reward is minus the distance to the goal, or to 0."""
    seen, parts = drawn(seed, count, 2), []
    jolts = jolt * drawn(seed + 1, STEPS, count, 2)
    aim = torch.zeros(2) if goal is None else goal
    for step in range(STEPS):
        action = act(seen).clamp(-1, 1)
        following = seen + SPEED * turned(action, turn) + jolts[step]
        parts.append((seen, action, following, -(following - aim).norm(dim=-1)))
        seen = following
    return Played(*(torch.stack(part, 1) for part in zip(*parts, strict=True)))


def log_of(played: list[Played], tasks: Tensor | None = None) -> Log:
    """Return the episodes of tasks as one log; with ``tasks`` ``[N, Z]`` policies are told them."""
    count, steps = played[0].reward.shape
    rows = count * steps
    joined = [
        torch.cat([part.flatten(0, 1) for part in parts]) for parts in zip(*played, strict=True)
    ]
    last = (torch.arange(len(joined[0])) + 1) % steps == 0
    number = torch.arange(len(played)).repeat_interleave(rows)
    columns: dict[Any, Tensor] = {
        "observation": joined[0],
        "action": joined[1],
        "episode": torch.arange(count * len(played)).repeat_interleave(steps),
        ("next", "observation"): joined[2],
        ("next", "achieved_goal"): joined[2],
        ("next", "reward"): joined[3],
        ("next", "terminated"): torch.zeros(len(last), dtype=torch.bool),
        ("next", "truncated"): last,
        TASK_ID: number.float(),
    }
    if tasks is not None:
        columns["task"] = tasks[number]
    return Log.from_columns(columns, {"action": {"low": [-1.0] * 2, "high": [1.0] * 2}})


def support(played: Played, episodes: int, rows: int | None = None) -> TensorDict:
    """Return rows of the first episodes as a learner reads them."""
    seen, action, following, reward = (part[:episodes].flatten(0, 1)[:rows] for part in played)
    found = TensorDict({"observation": seen, "action": action}, [len(seen)])
    return found.set(("next", "reward"), reward).set(("next", "observation"), following)


def fitted(
    kind: Any, log: Log, first: int, seeds: int, updates: int, batch: int, **options: Any
) -> Any:
    """Return a learner after its updates, all seeds at once, each as if it were alone."""
    seed_everything(first, verbose=False)
    data = OfflineDataModule(log, batch_size=batch, seed=first)
    optimizer = functools.partial(torch.optim.Adam, lr=1e-3)
    learner = kind(
        data.spec, network=SMALL, optimizer=optimizer, seeds=seeds, compile="off", **options
    )
    silent_trainer(updates).fit(learner, data)
    return learner.eval()


def away(act: Act, number: int, **task: Any) -> float:
    """Return the mean distance to where a policy is to be, over the steps of test episodes."""
    with torch.no_grad():
        return -float(play(act, STARTS, 90_000 + number, **task).reward.mean())


# ---------------------------------------------------------------------------- turned motors, cloned


def expert(angle: float) -> Act:
    """Return the demonstrator of a robot: straight to the middle, and no further."""
    return lambda seen: turned(
        seen * (-1 / SPEED) / seen.norm(dim=-1, keepdim=True).div(SPEED).clamp(min=1), -angle
    )


CLONED = {"head": "deterministic"}
MAML: dict[str, Any] = {"inner_rate": 0.3, "inner_steps": 3, "support": 10, "query": 25}
CLONES: dict[str, tuple[Any, dict[str, Any], int, int]] = {
    "MAML": (MAMLBC, MAML | {"gradient": "second"}, 600, 16),
    "MAML, first order": (MAMLBC, MAML | {"gradient": "first"}, 600, 16),
    "Reptile": (MAMLBC, MAML | {"gradient": "reptile"}, 600, 16),
    "BC on all robots": (BC, {}, 600, 256),
    "BC on all robots, told the angle": (BC, {}, 600, 256),
}
SCRATCH = ("BC on all robots, fitted on", "BC on the rows alone")
TUNING = 100  # updates of a fit on the rows


def clones(first: int, seeds: int, name: str) -> list[dict[str, float]]:
    """Return how far test robots are from the middle, by the rows that they gave; of each seed."""
    angle = angles(TASKS, first)
    played = [
        play(expert(float(a)), EPISODES, 100 * first + n, turn=float(a), jolt=JOLT)
        for n, a in enumerate(angle)
    ]
    told = torch.stack([angle.cos(), angle.sin()], -1) if name.endswith("told the angle") else None
    kind, options, updates, batch = CLONES[name if name in CLONES else "BC on all robots"]
    log = log_of(played, told)
    learner = fitted(kind, log, first, seeds, updates, batch, **CLONED, **options)
    return [clone(learner, name, first + seed, told is not None) for seed in learner.each_seed()]


def clone(learner: Any, name: str, seed: int, told: bool) -> dict[str, float]:
    """Return how far the robots of a seed are from the middle, by the rows that they gave."""
    found: dict[str, list[float]] = {str(rows): [] for rows in ROWS}
    for number, new in enumerate(angles(TESTS, 50_000 + seed).tolist()):
        shown = play(expert(new), 1, 70_000 + number, turn=new, jolt=JOLT)
        direction = torch.tensor([math.cos(new), math.sin(new)])
        for rows in ROWS:
            few, act = support(shown, 1, rows), learner
            if name in SCRATCH and rows:
                act = tuned(learner, few, fresh=name == SCRATCH[1])
            elif isinstance(learner, MAMLBC) and rows:
                act = learner.adapted(few)
            act = told_of(act, direction) if told else act
            found[str(rows)].append(away(act, number, turn=new))
    return {rows: sum(values) / len(values) for rows, values in found.items()}


def told_of(learner: Any, task: Tensor) -> Act:
    """Return a policy that is told one task."""
    return lambda seen: learner(seen, task.float().expand(len(seen), len(task)))


def tuned(learner: Any, few: TensorDict, *, fresh: bool) -> Any:
    """Return a clone fitted to some rows, from the weights of the learner or from none."""
    other = learner.fresh(0)
    if not fresh:
        other.load_state_dict(learner.state_dict())
    optimizer = torch.optim.Adam(other.actor.parameters(), lr=1e-3)
    for _ in range(TUNING):
        optimizer.zero_grad()
        (-other.actor.log_prob(few["observation"], few["action"]).mean()).backward()
        optimizer.step()
    return other.eval()


# ---------------------------------------------------------------------------- hidden goals, SAC


def wanderer(seed: int) -> Act:
    """Return what wanders: towards places that it draws anew now and then."""
    draw = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def act(seen: Tensor) -> Tensor:
        again = torch.rand(len(seen), 1, generator=draw) < 0.2
        place = 1.5 * (torch.rand(len(seen), 2, generator=draw) * 2 - 1)
        state["aim"] = torch.where(again, place, state.get("aim", place))
        noise = 0.3 * torch.randn(len(seen), 2, generator=draw)
        return (state["aim"] - seen) / SPEED * 0.5 + noise

    return act


def seeker(goal: Tensor) -> Act:
    """Return what goes to a goal, with some noise."""
    draw = torch.Generator().manual_seed(7)
    return lambda seen: (goal - seen) / SPEED * 0.5 + 0.2 * torch.randn(seen.shape, generator=draw)


HIDDEN = (
    "SAC, told the goal",
    "SAC, told the inferred goal",
    "PEARL",
    "PEARL, 5,000 updates",
    "SAC, told nothing",
)
SHOWN = ("nothing", "wandering 1", "wandering 2", "demonstrated 1", "demonstrated 2")
LEARNED: dict[str, Any] = {"discount": 0.9, "tau": 0.01}
CONTEXT: dict[str, Any] = {"latent": 4, "context": 16, "kl_weight": 0.1, "encoder": SMALL}
RL_UPDATES, RL_BATCH = 2_000, 64


def on_circle(angle: Tensor) -> Tensor:
    """Return the goals in some directions, ``[N, 2]``."""
    return torch.stack([angle.cos(), angle.sin()], -1)


# How the posterior of inverse RL judges: by the rewards of goals all around the circle.
RULE = InverseRL(
    GoalReaching(kind="dense"), tasks=on_circle(torch.arange(64) / 64 * 2 * math.pi).tolist()
)


@functools.cache
def hidden_fit(first: int, seeds: int, name: str) -> tuple[Any, Log]:
    """Return a learner of the wandering of all tasks, and its log."""
    goals = on_circle(angles(TASKS, first))
    played = [
        play(wanderer(1_000 * first + n), EPISODES, 100 * first + n, goal=goal)
        for n, goal in enumerate(goals)
    ]
    log = log_of(played, goals if name == "told" else None)
    kind, options = (PEARL, CONTEXT) if name.startswith("PEARL") else (SAC, {})
    updates = 5_000 if "5,000" in name else RL_UPDATES
    return fitted(kind, log, first, seeds, updates, RL_BATCH, **LEARNED, **options), log


def hidden(first: int, seeds: int, name: str) -> list[dict[str, float]]:
    """Return how far from their goals policies are, by what they were shown; of each seed."""
    kind = "told" if name in HIDDEN[:2] else name
    learner, log = hidden_fit(first, seeds, kind)
    return [sought(learner, log, name, first + seed) for seed in learner.each_seed()]


def sought(learner: Any, log: Log, name: str, seed: int) -> dict[str, float]:
    """Return how far from the goals of a seed a policy is, by what it was shown of them."""
    found: dict[str, list[float]] = {shown: [] for shown in SHOWN}
    for number, goal in enumerate(on_circle(angles(TESTS, 50_000 + seed))):
        for shown in SHOWN:
            how, _, count = shown.partition(" ")
            behavior = seeker(goal) if how == "demonstrated" else wanderer(40_000 + number)
            seen = play(behavior, int(count or 1), 70_000 + number, goal=goal)
            act: Act = learner
            if name == HIDDEN[0]:
                act = told_of(learner, goal)
            elif name == HIDDEN[1]:
                nothing = torch.zeros(2)
                act = told_of(
                    learner, inferred_task(RULE, log, log_of([seen])).task if count else nothing
                )
            elif name.startswith("PEARL") and count:
                act = learner.adapted(support(seen, int(count)))
            found[shown].append(away(act, number, goal=goal))
    return {shown: sum(values) / len(values) for shown, values in found.items()}


# ---------------------------------------------------------------------------- rows and tables

Found = Callable[[int, int, str], list[dict[str, float]]]
PARTS: dict[str, tuple[Found, tuple[str, ...], tuple[Any, ...]]] = {
    "turned": (clones, (*CLONES, *SCRATCH), ROWS),
    "hidden": (hidden, HIDDEN, SHOWN),
    "bandits": (bandits.bandits, bandits.METHODS, bandits.COLUMNS),
}


def kept(part: str, name: str, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Return what the fits of all seeds found and their seconds, found at the first call."""
    place = f"{name.replace(' ', '-').replace(',', '')}-{seeds[0]}-{len(seeds)}.json"
    path = BUILD / "course" / part / place
    if not path.exists():
        begun = time.process_time()
        values = PARTS[part][0](seeds[0], len(seeds), name)
        seconds = time.process_time() - begun
        write_text(path, json.dumps({"values": values, "seconds": seconds}))
        means = {k: round(sum(v[k] for v in values) / len(values), 3) for k in values[0]}
        say(f"{part}: {name}: {means} ({seconds:.0f} s)")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def rows_of(part: str, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return a row for every method and column of a part."""
    _, names, columns = PARTS[part]
    rows = []
    for name in names:
        found = kept(part, name, seeds)
        for column in map(str, columns):
            mean, low, high = interval([each[column] for each in found["values"]])
            spread = {"mean": mean, "low": low, "high": high, "seeds": list(seeds)}
            about = {"name": f"{part}: {name}, {column}", "method": name, "column": column}
            rows.append(about | spread | {"seconds": found["seconds"]})
    return rows


def document(part: str, rows: list[dict[str, Any]]) -> None:
    """Rewrite a table of docs/meta.md."""
    _, names, columns = PARTS[part]
    cells = {
        (r["method"], r["column"]): f"{r['mean']:.2f} [{r['low']:.2f}, {r['high']:.2f}]"
        for r in rows
    }
    seconds = {r["method"]: f"{r['seconds']:.0f}" for r in rows}
    lines = [[name, *(cells[name, str(c)] for c in columns), seconds[name]] for name in names]
    heads = [f"{c} rows" for c in columns] if part == "turned" else list(columns)
    replace_part(ROOT / "docs" / "meta.md", part, table(["method", *heads, "s"], lines))


def main() -> None:
    """Run the parts and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    options = parser.parse_args()
    quiet()
    if options.choose:
        for part in options.parts:
            rows_of(part, CHOICE_SEEDS)
        return
    found = {part: rows_of(part, FIVE_SEEDS[: options.seeds]) for part in options.parts}
    for part, rows in found.items():
        document(part, rows)
    write_text(BUILD / "course_meta.json", json.dumps(sum(found.values(), []), indent=1))


if __name__ == "__main__":
    main()
