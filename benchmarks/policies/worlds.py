"""Worlds of the policy benchmarks, each with an expert and the log that it leaves.

- :class:`Fork`: an obstacle to pass on either side; the mean of two good answers runs into it.
- :class:`TMaze`: a signal at the start says which way to turn thirty steps later.
- :class:`Reach`: the same task seen as numbers or by two cameras, each of which sees half of it.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hindsight_rl.logs.log import Log

Floats = NDArray[np.float64]

# ------------------------------------------------------------------------------------------- fork

FORK_STEPS = 60
_RADIUS, _DISC = 0.4, np.array([1.0, 0.0])


class Fork(gymnasium.Env[Any, Any]):
    """Pass a disc on either side: success is x of 2 without touching it.

    Observation ``[2]``: position, from (0, y) with y ~ N(0, 0.02^2). Action ``[2]`` in [-1, 1]:
    velocity; a step moves by 0.08 times it, and by N(0, 0.01^2) along each axis. Reward: 1 at the
    end of an episode that succeeds. Ends at the disc and at x = 2; cut after 60 steps.

    Args:
        shake: Standard deviation of what is added to the velocity, along each axis.
    """

    observation_space = spaces.Box(-10.0, 10.0, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, shake: float = 0.0) -> None:
        self._at, self._shake = np.zeros(2), shake
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first observation."""
        super().reset(seed=seed)
        self._at = np.array([0.0, self.np_random.normal(0.0, 0.02)])
        self._steps = 0
        return self._at.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        wanted = np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        moved = wanted + self.np_random.normal(0.0, 1.0, 2) * self._shake
        self._at = self._at + 0.08 * moved + self.np_random.normal(0.0, 0.01, 2)
        self._steps += 1
        touched = bool(((self._at - _DISC) ** 2).sum() < _RADIUS**2)
        arrived = not touched and bool(self._at[0] >= 2.0)
        over = touched or arrived
        cut = not over and self._steps >= FORK_STEPS
        info = {"is_success": arrived}
        return self._at.astype(np.float32), float(arrived), over, cut, info


def fork_expert(at: Floats, side: float) -> Floats:
    """Return the expert's velocity ``[2]``, of length 1; ``side`` is -1 or 1."""
    if at[0] < 0.35 and abs(at[1]) < 0.2:
        goal = np.array([0.45, 0.0])
    elif at[0] < 1.0:
        goal = np.array([1.0, 0.8 * side])
    else:
        goal = np.array([2.2, 0.0])
    way = goal - at
    unit: Floats = way / max(float(np.linalg.norm(way)), 1e-9)
    return unit


def fork_log(episodes: int = 500, seed: int = 0) -> Log:
    """Return what the expert recorded: what it meant to do, while its hand shook."""
    rows = Rows()
    for episode in range(episodes):
        env = Fork(shake=0.4)
        env.reset(seed=int(np.random.SeedSequence([seed, episode]).generate_state(1)[0]))
        side = float(env.np_random.choice([-1.0, 1.0]))
        over = False
        while not over:
            before = env._at
            meant = fork_expert(before, side)
            _, reward, terminated, truncated, _ = env.step(meant)
            over = terminated or truncated
            rows.add(episode, before, meant, env._at, reward, terminated, truncated)
    return rows.log("fork", Fork.action_space)


# ----------------------------------------------------------------------------------------- T-maze


class TMaze(gymnasium.Env[Any, Any]):
    """Walk down a corridor, then turn to the side that a signal named at its start.

    Observation ``[3]``: the signal, -1 or 1 at the first step and 0 after it; 1 at the junction,
    else 0; a distraction, N(0, 1). Actions: 0 ahead, 1 to the side of -1, 2 to the side of 1.
    Anywhere but ahead in the corridor ends the episode without a reward; so does the wrong side.
    Reward 1 for the right one.

    Args:
        length: Steps of the corridor.
    """

    observation_space = spaces.Box(-10.0, 10.0, (3,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, length: int = 30) -> None:
        self.length = length
        self._place, self._side = 0, 1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first observation, which has the signal."""
        super().reset(seed=seed)
        self._place, self._side = 0, int(self.np_random.choice([-1, 1]))
        return self._seen(), {}

    def _seen(self) -> NDArray[np.float32]:
        signal = self._side if self._place == 0 else 0
        junction = self._place >= self.length
        return np.array([signal, junction, self.np_random.normal()], np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        junction, action = self._place >= self.length, int(action)
        right = action == expert_turn(self._side, junction)
        self._place += 1
        arrived, over = right and junction, junction or not right
        return self._seen(), float(arrived), over, False, {"is_success": arrived}


def expert_turn(side: int, junction: bool) -> int:
    """Return the right action."""
    return 0 if not junction else 1 if side < 0 else 2


def t_maze_log(length: int = 30, episodes: int = 1000, seed: int = 0) -> Log:
    """Return the log of an expert that saw the signal and remembers it."""
    rows = Rows()
    for episode in range(episodes):
        env = TMaze(length)
        seen, _ = env.reset(seed=int(np.random.SeedSequence([seed, episode]).generate_state(1)[0]))
        over = False
        while not over:
            action = expert_turn(env._side, env._place >= length)
            following, reward, terminated, truncated, _ = env.step(action)
            rows.add(episode, seen, action, following, reward, terminated, truncated)
            seen, over = following, terminated or truncated
    return rows.log("t-maze", TMaze.action_space)


# ------------------------------------------------------------------------------------------ reach

REACH_STEPS, SIDE = 40, 64


class Reach(gymnasium.Env[Any, Any]):
    """Move a point to a goal, both anywhere in a square of side 2.

    Success: within 0.15 of the goal. Action ``[2]`` in [-1, 1]: a step moves by 0.1 times it. Cut
    after 40 steps. Reward: 1 for success.

    Args:
        seen: ``"state"``: observation ``[4]``, point and goal. ``"frames"``: two cameras,
            ``left`` and ``right``, ``[64, 64, 3]`` uint8, each of which sees its half of the square
            and black where the other half is. ``"one"``: the left camera alone.
    """

    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, seen: str = "state") -> None:
        self.seen = seen
        camera = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.observation_space = (
            spaces.Box(-1.0, 1.0, (4,), np.float32)
            if seen == "state"
            else spaces.Dict({name: camera for name in cameras(seen)})
        )
        self._at, self._goal, self._steps = np.zeros(2), np.zeros(2), 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first observation."""
        super().reset(seed=seed)
        self._at, self._goal = self.np_random.uniform(-0.95, 0.95, (2, 2))
        self._steps = 0
        return self._observe(), {}

    def _observe(self) -> Any:
        if self.seen == "state":
            return np.concatenate([self._at, self._goal]).astype(np.float32)
        frames = views(self._at, self._goal)
        return {name: frames[name] for name in cameras(self.seen)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        move = 0.1 * np.clip(np.asarray(action, np.float64), -1.0, 1.0)
        self._at = np.clip(self._at + move, -1.0, 1.0)
        self._steps += 1
        arrived = bool(np.linalg.norm(self._at - self._goal) < 0.15)
        cut = not arrived and self._steps >= REACH_STEPS
        return self._observe(), float(arrived), arrived, cut, {"is_success": arrived}


def cameras(seen: str) -> tuple[str, ...]:
    """Return the names of the cameras there are."""
    return ("left",) if seen == "one" else ("left", "right")


def views(at: Floats, goal: Floats) -> dict[str, NDArray[np.uint8]]:
    """Return what the two cameras see, ``[64, 64, 3]`` each."""
    whole = np.full((SIDE, SIDE, 3), 230, np.uint8)
    for place, colour in ((goal, (60, 160, 60)), (at, (200, 40, 40))):
        row, column = np.floor((place + 1.0) / 2.0 * (SIDE - 1)).astype(int)
        whole[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4] = colour
    left, right = whole.copy(), whole
    left[:, SIDE // 2 :], right[:, : SIDE // 2] = 0, 0
    return {"left": left, "right": right}


def reach_logs(episodes: int = 100, seed: int = 0) -> dict[str, Log]:
    """Return one expert's log, by what was recorded: ``state``, ``frames``, ``one``."""
    rows = Rows()
    frames: dict[str, list[NDArray[np.uint8]]] = {"left": [], "right": []}
    for episode in range(episodes):
        env = Reach()
        seen, _ = env.reset(seed=int(np.random.SeedSequence([seed, episode]).generate_state(1)[0]))
        over = False
        while not over:
            way = (env._goal - env._at) / 0.1
            action = way / max(1.0, float(np.abs(way).max()))
            _keep(frames, env)
            following, reward, terminated, truncated, _ = env.step(action)
            rows.add(episode, seen, action, following, reward, terminated, truncated)
            seen, over = following, terminated or truncated
        _keep(frames, env)  # what the last step led to
    images = {name: np.stack(found) for name, found in frames.items()}
    return {
        "state": rows.log("reach", Reach.action_space),
        "frames": rows.log("reach by two cameras", Reach.action_space, images),
        "one": rows.log("reach by one camera", Reach.action_space, {"left": images["left"]}),
    }


def _keep(frames: dict[str, list[NDArray[np.uint8]]], env: Reach) -> None:
    for name, frame in views(env._at, env._goal).items():
        frames[name].append(frame)


# ------------------------------------------------------------------------------------------- logs


class Rows:
    """Rows of a log that is being recorded."""

    def __init__(self) -> None:
        self._columns: dict[Any, list[Any]] = {}

    def add(
        self,
        episode: int,
        observation: Any,
        action: Any,
        following: Any,
        reward: float,
        terminated: bool,
        truncated: bool,
    ) -> None:
        """Record one step."""
        row = {
            "observation": np.asarray(observation, np.float32),
            "action": action if isinstance(action, int) else np.asarray(action, np.float32),
            "episode": episode,
            ("next", "observation"): np.asarray(following, np.float32),
            ("next", "reward"): np.float32(reward),
            ("next", "terminated"): terminated,
            ("next", "truncated"): truncated,
        }
        for key, value in row.items():
            self._columns.setdefault(key, []).append(value)

    def log(
        self,
        name: str,
        space: spaces.Space[Any],
        images: dict[str, NDArray[np.uint8]] | None = None,
    ) -> Log:
        """Return the log; images, if any, in the place of the observation."""
        columns: dict[Any, Any] = {key: np.stack(found) for key, found in self._columns.items()}
        if images:
            del columns["observation"], columns["next", "observation"]
            columns = {("observation", key): found for key, found in images.items()} | columns
        facts: dict[str, Any] = {"source": name}
        if isinstance(space, spaces.Box):
            facts["action"] = {"low": space.low.tolist(), "high": space.high.tolist()}
        else:
            facts["action"] = {"n": int(getattr(space, "n", 0))}
        return Log.from_columns(columns, facts)
