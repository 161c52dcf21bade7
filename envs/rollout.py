"""The one evaluator: whole episodes of any policy in any Gymnasium environment.

The torch policy during training, the exported file on a robot and a hand-written function are all
played by one loop, so that their returns can be compared. What of an observation reaches the
policy is said in ``hindsight_rl.envs.interface``.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.envs.interface import Env, EnvSource, Interface, RolloutError, frame, make
from hindsight_rl.envs.lockstep import Lockstep, Singles, Step, open_envs
from hindsight_rl.envs.playing import Act, Actor, Asking, Limit, Playing, play, why_unstated
from hindsight_rl.envs.randomised import RANDOMISE
from hindsight_rl.envs.recording import Columns
from hindsight_rl.export.draws import seed_key
from hindsight_rl.offsets import has_offset
from hindsight_rl.spec import Spec, SpecLike

Record = Callable[[NDArray[np.uint8], float], None]
"""Called with each frame ``[H, W, 3]`` of the first episode and the frames per second."""
Keep = Callable[[Mapping[str, NDArray[Any]], Mapping[str, Any], str], object]
"""``keep(columns, column_map, unstated)``: columns of a log ``[N, ...]`` by usual names, what a
column map has to say of them, and why they have no ``action_log_prob``, "" where they have it."""
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
            ``info["success"]``); ``None`` where the environment does not report it.
        final_successes: ``[E]`` bool, success at the last step; ``None`` where it is not reported.
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
        task: ``[..., Z]``; the first number is the commanded return, in reward units, the second
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
    act: Act | Actor,
    env_id: EnvSource,
    *,
    episodes: int,
    seed: int,
    task: ArrayLike | None = None,
    next_task: NextTask | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    num_envs: int | None = None,
    max_steps: int | None = None,
    limit_option: str = "max_steps",
    spec: SpecLike | None = None,
    record: Record | None = None,
    keep: Keep | None = None,
) -> Rollout:
    """Return the outcome of whole episodes.

    Environments are stepped in lockstep (in the environment's own class of many at once, where it
    has one), so that the policy acts for many at once; each episode is reset with its own seed, so
    that a policy which treats rows alike gives the same result for any ``num_envs``. What comes
    after the end of an episode does not count.

    Args:
        act: The policy: ``[n, O]`` float32, and ``[n, Z]`` float32 where there is a task, to
            actions ``[n, ...]`` in the environment's units and numbers; or an actor with a state.
        env_id: Gymnasium id (``module:Id-v0`` imports a module first), or a function that makes
            the environment.
        episodes: How many.
        seed: Seed of the whole; episode i is reset with ``episode_seed(seed, i)``, and its noise is
            what ``OnnxPolicy(path, seed=seed)`` draws in it.
        task: ``[Z]``, passed to the policy with the first step of every episode. A goal environment
            gives its own.
        next_task: Changes the task after every step by the reward received, as :func:`lowered`
            does; where there is none it is held.
        env_kwargs: Passed to ``gymnasium.make``.
        num_envs: Environments in lockstep; as many as there are episodes, at most 16, if ``None``.
        max_steps: Steps after which an episode is cut; ``None``: the environment's own limit,
            and 10,000 steps, with a warning, where it has none.
        limit_option: What that is called where the warning is read.
        spec: The policy's spec (or its dictionary, or a contract), to be checked against the
            environment beforehand.
        record: Receives the frames of the first episode.
        keep: Receives the episodes as columns of a log, when all are played.

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
    name = env_id if isinstance(env_id, str) else getattr(env_id, "__name__", "environment")
    first = make(env_id, env_kwargs, draw=record is not None)
    # Frames are those of a single environment, which is left where it is when it is drawn.
    opened = open_envs if record is None and count > 1 else _singles
    with contextlib.closing(opened(env_id, env_kwargs or {}, first, count)) as envs:
        known = None if spec is None else Spec.of(spec)
        interface = Interface(first, name, known)
        if known is not None:
            interface.check_fit(known)
        begin = _first_task(task, next_task, interface, known)
        ranges = (env_kwargs or {}).get(RANDOMISE)
        columns = None if keep is None else Columns(interface, ranges)
        unstated = why_unstated(act, interface, mixed=False)
        done = play(
            envs,
            [Playing(i, episode_seed(seed, i)) for i in range(episodes)],
            count,
            Limit(first, max_steps, limit_option, name),
            choose=Asking(
                act, interface, seed_key(seed), stating=keep is not None and not unstated
            ),
            send=interface.actions.sent,
            watcher=_Judging(first, interface, begin, next_task, record, columns),
        )
        if keep is not None and columns is not None:
            keep(columns.columns(), columns.column_map(), unstated)
    return _table(sorted(done, key=lambda episode: episode.number), name, seed)


def _singles(source: EnvSource, env_kwargs: Mapping[str, Any], first: Env, count: int) -> Lockstep:
    return Singles(source, env_kwargs, first)


class _Judging:
    """Shows the policy what it sees, changes its task, and passes on the first episode's frames."""

    def __init__(
        self,
        first: Env,
        interface: Interface,
        task: NDArray[np.float32] | None,
        next_task: NextTask | None,
        record: Record | None,
        columns: Columns | None,
    ) -> None:
        self._first, self._interface = first, interface
        self._task, self._next_task, self._record = task, next_task, record
        self._columns = columns

    def begin(self, episode: Playing, observation: Any) -> None:
        """Show the first observation and the first task."""
        episode.task = self._task
        self._see(episode, observation)
        if self._columns is not None:
            self._columns.begin(episode, observation)

    def step(self, episode: Playing, action: Any, step: Step) -> None:
        """Show what a step gave."""
        if episode.task is not None and self._next_task is not None:
            episode.task = self._next_task(episode.task, np.asarray(step.reward, np.float32))
        self._see(episode, step.observation)
        if self._columns is not None:
            self._columns.step(episode, action, step)

    def after(self, playing: Sequence[Playing]) -> None:
        """Nothing is done to all at once."""

    def _see(self, episode: Playing, observation: Any) -> None:
        seen = self._interface.see(observation)
        episode.observation = seen.observation
        if seen.task is not None:
            episode.task = seen.task
        if self._record is not None and episode.number == 0:  # played by the first environment
            rate = float(self._first.metadata.get("render_fps") or 30)
            self._record(frame(self._first, self._interface.name), rate)


def _first_task(
    task: ArrayLike | None, next_task: NextTask | None, interface: Interface, spec: Spec | None
) -> NDArray[Any] | None:
    """Return a task given from outside as ``[Z]``."""
    if task is None:
        if next_task is not None:
            raise RolloutError(f"{interface.name}: next_task changes a task, so give one to start")
        return None
    if interface.task_shape is not None:
        raise RolloutError(f"{interface.name}: gives a goal at every step, so leave out the task")
    wide = spec is not None and has_offset(spec.task)
    return np.atleast_1d(np.asarray(task, dtype=np.float64 if wide else np.float32))


def _table(done: Sequence[Playing], name: str, seed: int) -> Rollout:
    """Return the table of finished episodes."""
    reported = any(episode.success is not None for episode in done)
    success = np.array([bool(episode.success) for episode in done])
    final_success = np.array([bool(episode.final_success) for episode in done])
    return Rollout(
        env_id=name,
        seed=seed,
        returns=np.array([episode.total for episode in done], dtype=np.float64),
        lengths=np.array([episode.steps for episode in done], dtype=np.int64),
        terminated=np.array([episode.terminated for episode in done], dtype=np.bool_),
        successes=success if reported else None,
        final_successes=final_success if reported else None,
        seeds=np.array([episode.seed for episode in done], dtype=np.int64),
    )
