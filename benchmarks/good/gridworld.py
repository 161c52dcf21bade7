"""Rewards that explain experts in four rooms of cells, where everything can be computed.

    python benchmarks/good/gridworld.py [--seeds 5] [--no_document]

104 cells, four ways to go, one step in ten slips sideways. The expert likes one cell, shuns one
room, and is as random as that allows. Maximum causal entropy (``tabular_reward``) sees its
episodes, and a wanderer's, which only say where steps lead. Guided cost learning sees the same
episodes and samples of its own policies. Feature matching sees the mean of five features. What each
finds is compared with the expert exactly, here and in rooms with another door closed. Writes the
tables of docs/good.md and build/gridworld.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder above

from results import replace_part
from shared import BUILD, ROOT, interval, quiet, say, table

from hindsight_rl import Log, match_features, tabular_reward
from hindsight_rl.files import write_text
from hindsight_rl.keys import NEXT_OBSERVATION, REWARD, TERMINATED, TRUNCATED
from hindsight_rl.maths.feature_matching import feature_expectation
from hindsight_rl.maths.inverse_rl import (
    effective_share,
    guided_cost_loss,
    mixture_log_density,
)
from hindsight_rl.maths.soft_value import soft_values, state_visits

PLAN = (
    "#############",
    "#.....#.....#",
    "#.....#.....#",
    "#...........#",
    "#.....#.....#",
    "#.....#.....#",
    "##.####.....#",
    "#.....###.###",
    "#.....#.....#",
    "#.....#.....#",
    "#...........#",
    "#.....#.....#",
    "#############",
)
WAYS = ((-1, 0), (0, 1), (1, 0), (0, -1))
CELLS = [(i, j) for i, row in enumerate(PLAN) for j, mark in enumerate(row) if mark == "."]
STATES, HORIZON, WANDERER = len(CELLS), 30, 400
FIRST, GOAL, CLOSED = (2, 2), (10, 10), (10, 6)
EPISODES = (1, 4, 16, 64)
SLIPS = {"steps are certain": 0.0, "one step in ten slips": 0.1}


def moves_of(slip: float, closed: tuple[int, int] | None = None) -> Tensor:
    """Return transitions ``[S, A, S]``; a share of the steps slips, nobody enters a closed cell."""
    number = {cell: k for k, cell in enumerate(CELLS)}
    moves = torch.zeros(STATES, 4, STATES, dtype=torch.float64)
    for cell, k in number.items():
        for action in range(4):
            sides = [(action, 1 - slip), ((action + 1) % 4, slip / 2), ((action - 1) % 4, slip / 2)]
            for way, chance in sides:
                there = (cell[0] + WAYS[way][0], cell[1] + WAYS[way][1])
                place = k if there == closed else number.get(there, k)
                moves[k, action, place] += chance
    return moves


def true_reward() -> Tensor:
    """Return what the expert likes, ``[S]``, nats a step."""
    reward = torch.zeros(STATES, dtype=torch.float64)
    for k, cell in enumerate(CELLS):
        reward[k] = 10.0 if cell == GOAL else -2.0 if cell[0] < 7 and cell[1] > 6 else 0.0
    return reward


TRUE = true_reward()
START = torch.tensor([float(cell == FIRST) for cell in CELLS], dtype=torch.float64)
ANYWHERE = torch.full_like(START, 1 / STATES)
UNIFORM = torch.full((HORIZON, STATES, 4), 0.25, dtype=torch.float64)


class World(NamedTuple):
    """Rooms, the same with another door closed, and the expert of the former."""

    moves: Tensor
    closed: Tensor
    expert: Tensor


@cache
def world_of(slip: float) -> World:
    """Return the rooms where such a share of the steps slips."""
    moves = moves_of(slip)
    return World(moves, moves_of(slip, CLOSED), soft_values(TRUE, moves, HORIZON).policy)


class Played(NamedTuple):
    """Episodes ``[N, H]`` int64."""

    state: Tensor
    action: Tensor
    following: Tensor


def played(
    policy: Tensor,
    moves: Tensor,
    episodes: int,
    generator: torch.Generator,
    start: Tensor = START,
) -> Played:
    """Return episodes of a policy ``[H, S, A]``."""
    state = torch.multinomial(start, episodes, replacement=True, generator=generator)
    steps = []
    for chances in policy:
        action = torch.multinomial(chances[state], 1, generator=generator).squeeze(1)
        following = torch.multinomial(moves[state, action], 1, generator=generator).squeeze(1)
        steps.append((state, action, following))
        state = following
    return Played(*(torch.stack(part, dim=1) for part in zip(*steps, strict=True)))


def log_of(found: Played) -> Log:
    """Return the episodes as a log."""
    hot, episodes = torch.eye(STATES), len(found.state)
    last = (torch.arange(HORIZON) == HORIZON - 1).repeat(episodes)
    columns: dict[Any, Tensor] = {
        "observation": hot[found.state.flatten()],
        "action": found.action.flatten(),
        "episode": torch.arange(episodes).repeat_interleave(HORIZON),
        NEXT_OBSERVATION: hot[found.following.flatten()],
        REWARD: torch.zeros(episodes * HORIZON),
        TERMINATED: torch.zeros_like(last),
        TRUNCATED: last,
    }
    return Log.from_columns(columns, {"discrete_actions": 4})


def shares(shown: Played, prior: float) -> Tensor:
    """Return how often the expert did what ``[S, A]``, uniform where it never was."""
    pair = (shown.state * 4 + shown.action).flatten()
    count = torch.bincount(pair, minlength=4 * STATES).double().reshape(STATES, 4) + prior
    total = count.sum(-1, keepdim=True)
    return torch.where(total > 0, count / total.clamp_min(1e-300), 0.25)


def repeated(policy: Tensor) -> Tensor:
    """Return a policy ``[S, A]`` for every step."""
    return policy.expand(HORIZON, STATES, 4)


def worth(policy: Tensor, moves: Tensor) -> float:
    """Return the expected true return of a policy ``[H, S, A]``."""
    return float((state_visits(policy, moves, START) * TRUE).sum())


def measures(world: World, reward: Tensor | None, policy: Tensor) -> dict[str, float]:
    """Return how near a policy and a reward come to the expert's; a clone has no reward."""
    weight = state_visits(world.expert, world.moves, START) / HORIZON
    unlike = (policy - world.expert).abs().sum(-1) / 2
    found = {"policy": 100 * float((weight * unlike).sum())}
    other = policy
    if reward is not None:
        found["correlation"] = float(torch.corrcoef(torch.stack([reward, TRUE]))[0, 1])
        other = soft_values(reward, world.closed, HORIZON).policy
    found["return"] = worth(policy, world.moves)
    return found | {"closed": worth(other, world.closed)}


# --- guided cost learning -------------------------------------------------------------------------


def log_density(episodes: Played, policy: Tensor) -> Tensor:
    """Return log q ``[N]`` of episodes under a policy ``[H, S, A]``, less what no policy moves."""
    step = torch.arange(HORIZON).expand_as(episodes.state)
    return policy[step, episodes.state, episodes.action].log().sum(-1)


def guided_cost(
    world: World, shown: Played, generator: torch.Generator, *, mixed: bool
) -> tuple[Tensor, float]:
    """Return a reward ``[S]`` of guided cost learning, and the effective share of its samples.

    Each of 40 rounds plays 64 episodes of the policy that is best for the reward so far, entropy
    counted, then takes 20 steps of Adam. The samples of the last five rounds count, and if mixed as
    many demonstrations, whose density is that of a clone.
    """
    reward = torch.zeros(STATES, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([reward], lr=0.05)
    clone = repeated(shares(shown, 0.1))
    policies: list[Tensor] = []
    pools: list[Played] = []
    effective = 0.0
    for _ in range(40):
        policies = [*policies, soft_values(reward.detach(), world.moves, HORIZON).policy][-5:]
        pools = [*pools, played(policies[-1], world.moves, 64, generator)][-5:]
        pool = Played(*(torch.cat(part) for part in zip(*pools, strict=True)))
        samplers = [*policies, clone] if mixed else policies
        share = torch.full((len(samplers),), (0.5 if mixed else 1.0) / len(policies)).double()
        if mixed:
            share[-1] = 0.5
            again = torch.arange(len(pool.state)) % len(shown.state)
            parts = zip(pool, shown, strict=True)
            pool = Played(*(torch.cat([own, demo[again]]) for own, demo in parts))
        each = torch.stack([log_density(pool, policy) for policy in samplers])
        density = mixture_log_density(each, share)
        for _ in range(20):
            score, demos = reward[pool.state].sum(-1), reward[shown.state].sum(-1)
            loss = guided_cost_loss(demos, score, density) + 0.5e-3 * reward.square().sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        effective = float(effective_share(reward.detach()[pool.state].sum(-1), density))
    return reward.detach(), effective


# --- feature matching -----------------------------------------------------------------------------


def cell_features() -> Tensor:
    """Return which room a cell is in, and whether it is the goal, ``[S, 5]``; doors are in none."""
    found = torch.zeros(STATES, 5, dtype=torch.float64)
    for k, (i, j) in enumerate(CELLS):
        if j != 6 and PLAN[i][j - 1 : j + 2] != "#.#":
            found[k, 2 * (i > 6) + (j > 6)] = 1.0
        found[k, 4] = (i, j) == GOAL
    return found


FEATURES = cell_features()
WEIGHTS = torch.linalg.lstsq(FEATURES, TRUE.unsqueeze(-1)).solution.squeeze(-1)


def matching(world: World, seed: int, episodes: int) -> dict[str, float]:
    """Return how far feature matching comes with the first episodes of an expert."""
    shown = demonstrations(world, seed, episodes)
    step = torch.arange(HORIZON).repeat(episodes)
    demonstrated = feature_expectation(FEATURES[shown.state.flatten()], step, discount=1.0)

    def best_response(weights: Tensor) -> Tensor:
        sharp = soft_values(FEATURES @ weights * 1e4, world.moves, HORIZON).policy
        return (state_visits(sharp, world.moves, START) @ FEATURES).sum(0)

    found = match_features(demonstrated, best_response, rounds=200, tolerance=0.02)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(1000, 5, generator=generator, dtype=torch.float64)
    off = (weights @ (found.mixed - demonstrated)).abs() / weights.norm(dim=-1)
    return {
        "policies": float((found.shares > 0).sum()),
        "gap": found.gap,
        "largest": float(off.max()),
        "true": float(WEIGHTS @ found.mixed),
    }


# --- tables ---------------------------------------------------------------------------------------


def demonstrations(world: World, seed: int, episodes: int) -> Played:
    """Return the first episodes of the expert of a seed."""
    generator = torch.Generator().manual_seed(1_000 + seed)
    every = played(world.expert, world.moves, EPISODES[-1], generator)
    return Played(*(part[:episodes] for part in every))


def run(world: World, seed: int, episodes: int) -> dict[str, dict[str, float]]:
    """Return what each method finds from so many episodes."""
    generator = torch.Generator().manual_seed(2_000 + seed)
    shown = demonstrations(world, seed, episodes)
    wanderer = played(UNIFORM, world.moves, WANDERER, generator, ANYWHERE)
    both = Log.concatenate([log_of(shown), log_of(wanderer)], [1.0, 1.0])
    found = {"cloning": measures(world, None, repeated(shares(shown, 0.0)))}
    reward = tabular_reward(both, expert=None).reward
    policy = soft_values(reward, world.moves, HORIZON).policy
    found["MaxEnt"] = measures(world, reward, policy)
    for name, mixed in (("GCL, own samples", False), ("GCL, half demonstrations", True)):
        reward, effective = guided_cost(world, shown, generator, mixed=mixed)
        policy = soft_values(reward, world.moves, HORIZON).policy
        found[name] = measures(world, reward, policy) | {"effective": 100 * effective}
    return found


COLUMNS = {
    "policy": ("actions unlike the expert's, %", 1),
    "correlation": ("correlation of rewards", 2),
    "return": ("return", 1),
    "closed": ("return, door closed", 1),
    "effective": ("effective samples, %", 1),
}


def cell(values: Sequence[float], digits: int) -> str:
    """Return mean and interval."""
    mean, low, high = interval(values)
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def rewards_table(what: str, seeds: int) -> tuple[str, list[dict[str, Any]]]:
    """Return the table of MaxEnt, guided cost learning and cloning in a world, and its lines."""
    rows, lines, world = [], [], world_of(SLIPS[what])
    for episodes in EPISODES:
        begun = time.perf_counter()
        found = [run(world, seed, episodes) for seed in range(seeds)]
        for name in found[0]:
            row = [f"{name}, {episodes}"]
            for key, (_, digits) in COLUMNS.items():
                values = [each[name][key] for each in found if key in each[name]]
                row.append(cell(values, digits) if values else "")
            rows.append(row)
            mean, low, high = interval([each[name]["return"] for each in found])
            line = {"name": f"{what}: {row[0]}", "mean": mean, "low": low, "high": high}
            lines.append(line | {"seeds": seeds, "seconds": time.perf_counter() - begun})
            say(" | ".join(row))
    for name, policy, reward in (("the expert", world.expert, TRUE), ("random", UNIFORM, None)):
        found_by = measures(world, reward, policy)
        row = [f"{found_by[key]:.1f}" for key in ("policy", "return", "closed")]
        rows.append([name, row[0], "", *row[1:], ""])
        say(" | ".join(rows[-1]))
    return table([f"{what}; episodes", *(title for title, _ in COLUMNS.values())], rows), lines


def matching_table(seeds: int) -> str:
    """Return the table of feature matching where steps slip."""
    rows, world = [], world_of(0.1)
    for episodes in EPISODES:
        found = [matching(world, seed, episodes) for seed in range(seeds)]
        digits = {"policies": 0, "gap": 3, "largest": 3, "true": 1}
        row = [cell([each[key] for each in found], d) for key, d in digits.items()]
        rows.append([str(episodes), *row])
        say(" | ".join(rows[-1]))
    head = ["episodes", "policies mixed", "distance of features", "largest difference in 1,000"]
    return table([*head, "true return"], rows)


def main() -> int:
    """Print the tables, and put them into docs/good.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no_document", action="store_true")
    given = parser.parse_args()
    quiet()
    start = time.perf_counter()
    tables, lines = {"feature_matching": matching_table(given.seeds)}, []
    for number, what in enumerate(SLIPS):
        tables[f"gridworld_{number}"], more = rewards_table(what, given.seeds)
        lines += more
    BUILD.mkdir(exist_ok=True)
    write_text(BUILD / "gridworld.json", json.dumps(lines, indent=1))
    for name, found in tables.items():
        say(found)
        if not given.no_document:
            replace_part(ROOT / "docs" / "good.md", name, found)
    say(f"{time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
