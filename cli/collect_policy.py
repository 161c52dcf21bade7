"""Episodes of a policy for ``hindsight collect``: of a run, a checkpoint, a file, or a planner."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from hindsight_rl.cli.planner_words import named_planner
from hindsight_rl.cli.runs import chosen_checkpoint
from hindsight_rl.datamodules.sources.deciding import Deciding, Random
from hindsight_rl.datamodules.sources.planning import planning_actor
from hindsight_rl.envs.interface import Env, Interface
from hindsight_rl.envs.playing import Asking, Limit, Playing
from hindsight_rl.envs.recording import Keeping, Recording, record_episode
from hindsight_rl.envs.rollout import episode_seed
from hindsight_rl.export.draws import seed_key
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.maths.draws import fork_key
from hindsight_rl.ports import Actor
from hindsight_rl.spec import Spec
from hindsight_rl.training.checkpoints.load import load_learner


class PolicyEpisodes:
    """Episodes of a policy in one environment, one after another.

    Args:
        policy: What acts, see :func:`acting`.
        env: The environment.
        interface: What of it the policy meets.
        explore: Share of actions that are drawn uniformly instead, in [0, 1].
        seed: Of the episodes and every draw, not negative.
        limit: Where episodes are cut.

    Raises:
        ValueError: The policy does not go with the environment, or cannot be drawn from.

    Attributes:
        unstated: Why it is not known how likely executed actions are, "" where it is.
    """

    def __init__(
        self,
        policy: Actor,
        env: Env,
        interface: Interface,
        *,
        explore: float,
        seed: int,
        limit: Limit,
    ) -> None:
        if not 0 <= explore <= 1:
            raise ValueError(f"--explore is {explore}, it must lie in [0, 1]")
        self._env, self._seed, self._limit = env, seed, limit
        self._interface = interface
        self._key = fork_key(seed_key(seed), "collect")
        random = Random(interface.actions, interface.name, self._key) if explore else None
        self._deciding = Deciding(policy, random, explore, interface)
        self.unstated = self._deciding.unstated()

    def record(self, numbers: Iterable[int]) -> Iterator[Recording]:
        """Yield whole episodes.

        Args:
            numbers: Of the episodes, from 0.

        Yields:
            Each episode, as the environment gave it.
        """
        interface = self._interface
        asking = Asking(self._deciding, interface, self._key, stating=not self.unstated)

        def sent(playing: Sequence[Playing]) -> list[object]:
            return [interface.actions.sent(action) for action in asking(playing)]

        for number in numbers:
            episode = Playing(number, episode_seed(self._seed, number))
            keeping = Keeping(interface)
            yield record_episode(
                self._env, episode, self._limit, keeping, sent, lambda action: action
            )


def acting(given: argparse.Namespace, env: Env) -> tuple[Actor, Interface, str]:
    """Return what acts in an environment, what of it that meets, and its name.

    Args:
        given: The arguments of the command: a policy, or a planner and its model.
        env: The environment.

    Returns:
        All three.

    Raises:
        ValueError: The policy does not go with the environment, no model is known, or both a policy
            and a planner are given.
    """
    if not given.planner:
        policy, interface = loaded(
            given.policy, env, given.env, sample=given.sample, seed=given.seed
        )
        return policy, interface, str(given.policy)
    if given.policy or given.sample:
        other = "--policy" if given.policy else "--sample"
        raise ValueError(f"--planner acts itself: leave out {other}, or leave out --planner")
    planner, interface = (
        named_planner(given.planner, given.planner_options),
        Interface(env, given.env),
    )
    model = model_file(given.model) or given.model
    return planning_actor(planner, model, env, interface), interface, f"{planner} by {given.model}"


def model_file(model: str) -> Path | None:
    """Return the checkpoint that a planner's model is, ``None`` where it is no file or run."""
    path = Path(model)
    return chosen_checkpoint(path) if path.is_dir() else path if path.is_file() else None


def loaded(path: Path, env: Env, name: str, *, sample: bool, seed: int) -> tuple[Actor, Interface]:
    """Return a policy that acts in an environment, and what of it the policy meets.

    Args:
        path: An exported file (``.onnx``), a checkpoint, or the folder of a run: its best
            checkpoint, or its newest one.
        env: The environment.
        name: Its name, for messages.
        sample: Draw actions from the policy's distribution; else its likeliest ones.
        seed: Of the draws of a file.

    Returns:
        Both.

    Raises:
        ValueError: The policy does not go with the environment, or cannot be drawn from.
    """
    policy, spec = _opened(path, sample=sample, seed=seed)
    interface = Interface(env, name, spec)
    interface.check_fit(spec)
    if spec.task is not None and interface.task_shape is None:
        raise ValueError(
            f"{path} takes a task and {name} gives none: hindsight run POLICY.onnx --task ... "
            "--record LOG.npz records episodes of a task"
        )
    return policy, interface


def _opened(path: Path, *, sample: bool, seed: int) -> tuple[Actor, Spec]:
    """Return what acts, and its spec."""
    if path.suffix == ".onnx":
        policy = OnnxPolicy(path, seed=seed)
        if sample and policy.signature.distribution is None:
            raise ValueError(
                f"--sample draws from a distribution, which {path} does not hold: it acts as it "
                "was exported. Give the run or the checkpoint it was exported from, or export it "
                "with --drawn"
            )
        return policy, Spec.of(policy.contract)
    learner = load_learner(chosen_checkpoint(path) if path.is_dir() else path)
    if learner.seed_states is not None:
        sys.stderr.write(f"seed 0 of {learner.seed_states.count} plays\n")
    learner.eval()
    return learner.collecting(sample), learner.spec
