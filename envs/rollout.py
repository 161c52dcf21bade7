"""The one evaluator: whole episodes of any policy in any Gymnasium environment.

The torch policy during training, the exported file on a robot and a hand-written function are all
played by this loop, so that their returns can be compared. What of an observation reaches the
policy is said in ``hindsight_rl.envs.interface``.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.envs.interface import Env, EnvSource, Interface, RolloutError, frame, make
from hindsight_rl.envs.rewards import single

Act = Callable[..., Any]
"""``act(observation [n, O]) -> action [n, ...]``, or ``act(observation, task [n, Z])``."""
Record = Callable[[NDArray[np.uint8], float], None]
"""Called with each frame ``[H, W, 3]`` of the first episode and the frames per second."""
NextTask = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
"""``next_task(task [..., Z], reward [...]) -> task [..., Z]`` of the following step."""
_MOST_ENVS = 16


@dataclass(frozen=True)
class Rollout:
    """What E episodes gave; arrays are in the order of the episode numbers.

    Attributes:
        env_id: The environment.
        seed: Seed of the whole.
        returns: ``[E]`` float64, undiscounted sum of rewards.
        lengths: ``[E]`` int64, in steps.
        terminated: ``[E]`` bool, ended by the environment rather than by a time limit.
        successes: ``[E]`` bool, success at any step (``info["is_success"]`` or
            ``info["success"]``); ``None`` where the environment does not tell.
        final_successes: ``[E]`` bool, success at the last step; ``None`` likewise.
        seeds: ``[E]`` int64, with which each episode was reset.
    """

    env_id: str
    seed: int
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    terminated: NDArray[np.bool_]
    successes: NDArray[np.bool_] | None
    final_successes: NDArray[np.bool_] | None
    seeds: NDArray[np.int64]


def episode_seed(seed: int, episode: int) -> int:
    """Return the seed of one episode: a function of the two numbers alone.

    Args:
        seed: Seed of the whole, not negative.
        episode: Number of the episode, not negative.

    Returns:
        A seed in [0, 2**31).

    Raises:
        ValueError: One of them is negative.
    """
    if seed < 0 or episode < 0:
        raise ValueError(f"seed is {seed} and episode {episode}: neither may be negative")
    # 31 bits: some simulators keep a seed in a signed 32-bit word.
    return int(np.random.SeedSequence([seed, episode]).generate_state(1)[0] >> 1)


def lowered(task: NDArray[np.float32], reward: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what is left of a command after a step: a return, and the steps it may take.

    Args:
        task: ``[..., Z]``; the first number is the return asked for, in reward units, the second
            (if there is one) the steps left, further ones stay.
        reward: ``[...]``, what the step earned.

    Returns:
        ``[..., Z]``: the return less the reward; the steps less one, but at least 1.

    Reference:
        Srivastava et al. 2019, arXiv 1912.02877, algorithm 2.
    """
    left = np.array(task, dtype=np.float32)
    left[..., 0] -= reward
    if left.shape[-1] > 1:
        left[..., 1] = np.maximum(left[..., 1] - 1.0, 1.0)
    return left


def rollout(
    act: Act,
    env_id: EnvSource,
    *,
    episodes: int,
    seed: int,
    task: ArrayLike | None = None,
    next_task: NextTask | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    num_envs: int | None = None,
    max_steps: int | None = None,
    spec: Mapping[str, Any] | None = None,
    record: Record | None = None,
) -> Rollout:
    """Return the outcome of whole episodes.

    Environments are stepped in lockstep, so that the policy is asked for many at once; each episode
    is reset with its own seed, so that a policy which treats rows alike gives the same result for
    any ``num_envs``. Nothing is stepped after its episode has ended.

    Args:
        act: The policy: ``[n, O]`` float32, and ``[n, Z]`` float32 where there is a task, to
            actions ``[n, ...]``.
        env_id: Gymnasium id (``module:Id-v0`` imports a module first), or a function that makes
            the environment.
        episodes: How many.
        seed: Seed of the whole; episode i is reset with ``episode_seed(seed, i)``.
        task: ``[Z]``, handed to the policy with the first step of every episode. A goal environment
            gives its own.
        next_task: Changes the task after every step by the reward received, as :func:`lowered`
            does; where there is none it is held.
        env_kwargs: Passed to ``gymnasium.make``.
        num_envs: Environments in lockstep; as many as there are episodes, at most 16, if ``None``.
        max_steps: Steps after which an episode is cut. Needed where neither the environment nor
            its registration ends one.
        spec: The policy's ``spec`` or contract, to be checked against the environment beforehand.
        record: Receives the frames of the first episode.

    Returns:
        The outcome, in the order of the episode numbers.

    Raises:
        RolloutError: The environment cannot be made, or does not fit the policy.
        ValueError: A number is out of range, or the policy answers with something else.
    """
    count = min(episodes, _MOST_ENVS if num_envs is None else num_envs)
    for argument, value in (("episodes", episodes), ("num_envs", count), ("max_steps", max_steps)):
        if value is not None and value < 1:
            raise ValueError(f"{argument} is {value}, and must be at least 1")
    seeds = [episode_seed(seed, i) for i in range(episodes)]
    name = env_id if isinstance(env_id, str) else getattr(env_id, "__name__", "environment")
    with contextlib.ExitStack() as stack:
        slots = []
        for i in range(count):
            shown = record if i == 0 else None
            env = make(env_id, env_kwargs, draw=shown is not None)
            stack.callback(env.close)
            slots.append(_Slot(env, Interface(env, name), max_steps, shown))
        if spec is not None:
            slots[0].interface.check_fit(spec)
        first = _first_task(task, next_task, slots[0].interface)
        for slot in slots:
            slot.first_task, slot.next_task = first, next_task
        done = _play(act, slots, seeds)
    return _collect(done, name, seed)


@dataclass
class _Episode:
    """One episode while it is played."""

    number: int
    seed: int
    total: float = 0.0
    length: int = 0
    terminated: bool = False
    success: bool | None = None
    final_success: bool | None = None


class _Slot:
    """One environment and the episode it is playing."""

    def __init__(
        self, env: Env, interface: Interface, max_steps: int | None, record: Record | None
    ) -> None:
        self.env, self.interface = env, interface
        self.max_steps, self.record = max_steps, record
        self.first_task: NDArray[np.float32] | None = None
        self.next_task: NextTask | None = None
        self.episode = _Episode(0, 0)

    def start(self, episode: _Episode) -> None:
        """Reset for an episode."""
        self.episode, self.task = episode, self.first_task
        observation, _ = self.env.reset(seed=episode.seed)
        self._see(observation)

    def step(self, action: Any) -> bool:
        """Take one step and return whether the episode is over."""
        observation, reward, terminated, truncated, info = self.env.step(
            self.interface.action(action)
        )
        episode = self.episode
        earned = single(reward, self.interface.name)
        episode.total += earned
        episode.length += 1
        episode.terminated = bool(terminated)
        if self.task is not None and self.next_task is not None:
            self.task = self.next_task(self.task, np.asarray(earned, np.float32))
        told = info.get("is_success", info.get("success"))
        if told is not None:
            episode.final_success = bool(told)
            episode.success = bool(episode.success) or bool(told)
        self._see(observation)
        return bool(terminated or truncated or episode.length == self.max_steps)

    def _see(self, observation: Any) -> None:
        """Keep what the policy sees next, and hand a frame on."""
        self.seen = self.interface.see(observation)
        if self.record is not None and self.episode.number == 0:
            rate = float(self.env.metadata.get("render_fps") or 30)
            self.record(frame(self.env, self.interface.name), rate)


def _first_task(
    task: ArrayLike | None, next_task: NextTask | None, interface: Interface
) -> NDArray[np.float32] | None:
    """Return a task given from outside as ``[Z]``."""
    if task is None:
        if next_task is not None:
            raise RolloutError(f"{interface.name}: next_task changes a task, so give one to start")
        return None
    if interface.task_shape is not None:
        raise RolloutError(f"{interface.name}: gives a goal at every step, so leave out the task")
    return np.atleast_1d(np.asarray(task, dtype=np.float32))


def _play(act: Act, slots: list[_Slot], seeds: Sequence[int]) -> list[_Episode]:
    """Return the finished episodes in the order of their numbers."""
    episodes = [_Episode(i, seed) for i, seed in enumerate(seeds)]
    waiting = iter(episodes)
    playing = slots
    for slot in playing:
        slot.start(next(waiting))
    while playing:
        actions = _ask(act, playing)
        left = []
        for slot, action in zip(playing, actions, strict=True):
            over = slot.step(action)
            following = next(waiting, None) if over else None
            if following is not None:
                slot.start(following)
            if following is not None or not over:
                left.append(slot)
        playing = left
    return episodes


def _ask(act: Act, slots: list[_Slot]) -> NDArray[Any]:
    """Return the policy's checked actions ``[n, ...]`` for the environments still playing."""
    observation = np.stack([slot.seen.observation for slot in slots])
    given = [slot.task if slot.seen.task is None else slot.seen.task for slot in slots]
    tasks = [task for task in given if task is not None]
    actions = np.asarray(act(observation, np.stack(tasks)) if tasks else act(observation))
    interface = slots[0].interface
    expected = (len(slots), *interface.action_shape)
    if actions.shape != expected:
        raise ValueError(
            f"{interface.name}: the policy answered with shape {list(actions.shape)}, and "
            f"{len(slots)} environments take {list(expected)}"
        )
    if not np.isfinite(actions).all():
        raise ValueError(f"{interface.name}: the policy answered with numbers that are not finite")
    return actions


def _collect(done: list[_Episode], name: str, seed: int) -> Rollout:
    """Return the table of finished episodes."""
    told = any(episode.success is not None for episode in done)
    success = np.array([bool(episode.success) for episode in done])
    final_success = np.array([bool(episode.final_success) for episode in done])
    return Rollout(
        env_id=name,
        seed=seed,
        returns=np.array([episode.total for episode in done], dtype=np.float64),
        lengths=np.array([episode.length for episode in done], dtype=np.int64),
        terminated=np.array([episode.terminated for episode in done], dtype=np.bool_),
        successes=success if told else None,
        final_successes=final_success if told else None,
        seeds=np.array([episode.seed for episode in done], dtype=np.int64),
    )
