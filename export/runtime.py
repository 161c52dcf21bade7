"""The runtime: an exported policy played with numpy and onnxruntime, without PyTorch.

A policy is a function of what it is given and of a state: what its graph carries from step to step,
the actions of a chunk that are still to be executed, and the number of the step, from which noise
is drawn. ``step`` is that function; ``act`` keeps the state for its caller.

A single observation of a policy without any state takes the fast way: it is written into a buffer
bound to the session once, so that a call costs no allocation but its answer and is not slower than
the bare ``InferenceSession``.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.densities import Likelihood
from hindsight_rl.export import chunks, draws, limits, robots, stated
from hindsight_rl.export.contract import Contract
from hindsight_rl.export.fast_way import FastWay, overflow
from hindsight_rl.export.feed import Feed, Observation
from hindsight_rl.export.modelfile import MAX_BYTES, read_model, read_policy
from hindsight_rl.export.providers import Provider
from hindsight_rl.export.read_signature import signature_of
from hindsight_rl.export.session import open_session
from hindsight_rl.export.slots import Slots
from hindsight_rl.export.verify import prove
from hindsight_rl.propensities import Drawn, certain

Array = NDArray[Any]


class OnnxPolicy:
    """A policy file that ``hindsight export`` wrote, ready to act.

    The file is read once into memory and checked: one contract of a known version, no external
    data, weights and graph as exported. One policy serves one thread at a time, because it keeps
    state and buffers; open one policy per thread.

    Args:
        path: The policy file.
        threads: Threads inside one operator. One is fastest for the small networks of control.
        max_bytes: Largest file accepted.
        seed: Of the noise, for policies that take any: the same seed, episode and step give the
            same noise.
        deterministic: Put zeros in the place of noise.
        providers: Execution providers of onnxruntime, in the order in which they are tried: names,
            or pairs of a name and options. The file is then proven on its probe rows when it is
            opened. The processor if ``None``.

    Raises:
        ContractError: The file must not be run as it stands, or not with these providers.
        ValueError: ``threads`` is below 1; a provider is not installed; or ``deterministic`` is set
            for a policy for which zero noise means nothing.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int = 1,
        max_bytes: int = MAX_BYTES,
        seed: int = 0,
        deterministic: bool = False,
        providers: Sequence[Provider] | None = None,
    ) -> None:
        self.contract: Contract
        """What the file says about itself; see ``hindsight_rl.export.contract``."""
        self.contract, graph = read_policy(read_model(path, max_bytes=max_bytes), path)
        self.signature = signature_of(self.contract)
        """Inputs and outputs of the graph, typed."""
        self._session = open_session(
            graph, self.contract, path, threads=threads, providers=providers
        )
        if providers is not None:
            prove(self._session, self.contract, path)
        self._outputs = list(self.signature.outputs())
        self._feed = Feed(self.signature)
        noise = self.signature.noise
        if deterministic and noise is not None and not noise.zero:
            advice = "Leave it out; the same seed gives the same actions."
            if self.signature.distribution is not None:
                advice += " Without --drawn 'hindsight export' writes the likeliest action."
            raise ValueError(
                f"{path}: deterministic=True puts zeros in the place of noise, and this policy was "
                "not made for that: noise chooses between several good answers, and zeros lead to "
                f"their average. {advice}"
            )
        self._seed, self._deterministic = seed, deterministic
        if noise is not None:
            self._draws = draws.Ahead(noise.width, noise.distribution)
        self._follows = bool(self.signature.state or noise or self.signature.chunk)
        self._drawn = noise is not None and not deterministic
        self._slots: Slots | None = None
        self._last: Likelihood | None = None
        self._next_episode = 0
        self._fast = None
        if not self._follows and not self.signature.entries:
            given = self._feed.observation[0], self._feed.task
            self._fast = FastWay(self._session, *given, self.signature)

    def act(self, observation: Observation, task: ArrayLike | None = None) -> Any:
        """Return the action for one observation, or one action per row of a batch.

        Real numbers of any width are accepted and cast to float32; integers and flags raise an
        error where numbers are meant, because raw counts or pixels are rarely what a policy was
        fitted to. A policy with a state, noise or chunks follows its rows from call to call: call
        :meth:`reset` where episodes begin.

        Args:
            observation: ``[O]``, or a batch ``[N, O]``, in the units of the contract; a dictionary
                of such arrays where the contract lists entries.
            task: ``[Z]``, or ``[N, Z]`` for a batch; needed if the contract has a task without a
                default, an error if it has no task.

        Returns:
            Continuous: ``[A]`` float32 (``[N, A]``), in the units and bounds of the contract, an
            array of its own. Discrete: an ``int``, or ``[N]`` int64, in the environment's numbers
            (the contract's ``start`` is the first).

        Raises:
            ValueError: Shape, type or finiteness of an input break the contract; or the answer is
                not finite; or the number of rows changed within an episode.
        """
        if self._fast is not None:
            observation = np.asarray(observation)
            if observation.shape == self._fast.shape:
                return self._fast.act(observation, task)
        feed, single = self._feed(observation, task)
        rows = len(next(iter(feed.values())))
        slots = self._following(rows)
        found = self._advance(feed, slots.state, slots.counters(self._seed))
        answers, slots.state, self._last = found
        slots.steps += 1
        if not single:
            return answers
        return int(answers[0]) if self.signature.action.discrete else answers[0]

    def reset(self, slots: Sequence[int] | None = None, *, episode: int | None = None) -> None:
        """Begin an episode: forget the state, and draw noise from the next episode's numbers.

        Call it wherever an episode begins. A policy without state, noise or chunks has nothing to
        forget.

        Args:
            slots: Rows of the batch whose episodes begin; all if ``None``, and then the next batch
                may have another number of rows.
            episode: Number of the episode (of the first one of several), from which noise is drawn;
                the one after the last if ``None``.

        Raises:
            ValueError: ``episode`` is negative, or there is no such slot.
        """
        if episode is not None:
            if episode < 0:
                raise ValueError(f"episode is {episode}, and must not be negative")
            self._next_episode = episode
        if slots is None:
            self._slots = self._last = None
            return
        count = 0 if self._slots is None else len(self._slots.steps)
        if not all(0 <= slot < count for slot in slots):
            raise ValueError(f"slots is {list(slots)}, and the last batch had {count} rows")
        chosen = np.array(slots, dtype=np.int64)
        if self._slots is not None and len(chosen):
            self._slots.begin(chosen, self.initial_state(len(chosen)), self._next_episode)
            self._next_episode += len(chosen)

    def initial_state(self, n: int) -> dict[str, Array]:
        """Return the state with which n episodes begin, ``[n, ...]`` by name; often empty."""
        found = {
            f"state.{kept.name}": np.repeat(kept.initial[None], n, axis=0)
            for kept in self.signature.state
        }
        if self.signature.chunk is None:
            return found
        return found | chunks.initial(self.signature.chunk, self.signature.action, n)

    def step(
        self,
        observation: Observation,
        task: ArrayLike | None,
        state: Mapping[str, Array],
        noise: NDArray[np.int64],
    ) -> tuple[Array, dict[str, Array]]:
        """Return actions and the following state; nothing is kept.

        Args:
            observation: ``[n, O]``, or a dictionary of such arrays.
            task: ``[n, Z]``, ``[Z]`` or ``None``, as in :meth:`act`.
            state: ``[n, ...]`` by name, from :meth:`initial_state` or the last step.
            noise: ``[n, 3]``, counters (key, episode, step) from which noise is drawn.

        Returns:
            ``[n, A]`` or ``[n]``, and the state.

        Raises:
            ValueError: As :meth:`act`; or the observation is a single one.
        """
        feed = self._feed.batch(observation, task)
        return self._advance(feed, dict(state), np.asarray(noise))[:2]

    def log_prob(self, action: ArrayLike) -> Any:
        """Return how likely the last answer of :meth:`act` was to be executed as this action.

        This is what a log holds as ``action_log_prob``. It is for files that draw their actions and
        state from what (``hindsight export --drawn``).

        Args:
            action: ``[A]``, or ``[N, A]`` for a batch; choices ``[]`` or ``[N]``; in the units and
                numbers of the contract, clipped to its bounds.

        Returns:
            Nats, a ``float``, or ``[N]`` float64: a density in the units of the action, and at a
            bound the mass of all that is clipped to it.

        Raises:
            ValueError: The file does not know it, nothing was answered in this episode, or the
                shape is that of other actions.
        """
        if self.signature.distribution is None or not self._drawn:
            raise ValueError(
                "this file does not draw from a distribution that it states: write one that does, "
                "'hindsight export --drawn'"
            )
        if self._last is None or self._slots is None:
            raise ValueError("log_prob follows act, and act was not called in this episode")
        done = self._as_answered(action, self._slots, "action")
        found = self._last(done, self._last.low, self._last.high)
        return float(found[0]) if np.ndim(action) == len(self.signature.action.shape) else found

    def unstated(self, low: NDArray[np.float32], high: NDArray[np.float32], *, mixed: bool) -> str:
        """Return why it is not known how likely executed actions are, "" where it is."""
        facts = self.contract, self.signature, low, high
        return stated.unstated(*facts, drawn=self._drawn, mixed=mixed)

    def drawn(
        self,
        observation: Observation,
        task: ArrayLike | None,
        state: Mapping[str, Array],
        noise: NDArray[np.int64],
    ) -> Drawn:
        """Return what :meth:`step` does, and how likely it is; nothing is kept."""
        feed = self._feed.batch(observation, task)
        action, following, likelihood = self._advance(feed, dict(state), np.asarray(noise))
        if not self._drawn:
            known = self.signature.action.discrete
            return Drawn(action, following, certain(action) if known else None)
        return Drawn(action, following, likelihood)

    def with_executed(self, state: Mapping[str, Array], action: Array) -> dict[str, Array]:
        """Return the state after a step in which these actions were executed; nothing is kept.

        Args:
            state: ``[n, ...]`` by name, from :meth:`step`.
            action: ``[n, A]`` or ``[n]``, in the units and numbers of the contract.

        Returns:
            The state; the same where it holds no actions.
        """
        found, chunk = dict(state), self.signature.chunk
        for kept in self.signature.state:
            if kept.actions:
                moved = np.ones(len(action), np.bool_)
                if chunk is not None:
                    moved = chunks.asked_before(chunk, found)
                name, done = f"state.{kept.name}", action - self.signature.action.start
                found[name] = chunks.with_last(found[name], done, moved)
        return found

    def executed(self, action: ArrayLike) -> None:
        """Say what was executed for the last answer of :meth:`act`, where it was something else.

        A policy that sees its own past actions was fitted to those that were executed. Call it
        after :meth:`act` where the loop limits, clips or replaces actions; without a call the
        answer itself counts as executed. For other policies it does nothing.

        Args:
            action: ``[A]``, or ``[N, A]`` for a batch; choices ``[]`` or ``[N]``; in the units and
                numbers of the contract.

        Raises:
            ValueError: Nothing was answered in this episode, or the shape is that of other actions.
        """
        if self._slots is None or not self._slots.steps.any():
            if self._follows:
                raise ValueError("executed follows act, and act was not called in this episode")
            return
        done = self._as_answered(action, self._slots, "executed")
        self._slots.state = self.with_executed(self._slots.state, done)

    def _as_answered(self, action: ArrayLike, slots: Slots, name: str) -> Array:
        """Return actions ``[N, ...]`` in the place of those that were answered last."""
        done = np.asarray(action, dtype=self.signature.action.dtype)
        shape = (len(slots.steps), *self.signature.action.shape)
        if done.shape != shape and (1, *done.shape) != shape:
            raise ValueError(f"{name} has shape {list(done.shape)}, and act answered {list(shape)}")
        return done.reshape(shape)

    def rate_limited(
        self, action: ArrayLike, last: ArrayLike | None, *, seconds: float | None = None
    ) -> Any:
        """Return the action nearest to the wanted one that the contract's rate limits allow.

        Those of the action, and of joints where a command is the position of each: the lower holds.

        The graph does not know the last command, so the loop that sends commands calls this.

        Args:
            action: ``[..., A]``, what :meth:`act` returned.
            last: ``[..., A]``, the command sent before; ``None`` at an episode's first step, where
                any action is allowed.
            seconds: Time since then; a step at the contract's control rate if ``None``.

        Returns:
            ``[..., A]`` float32; the action itself where the contract states no limit, and for
            choices, which have no rate.

        Raises:
            ValueError: Neither a control rate nor ``seconds`` is known, or ``seconds`` is not
                positive.
        """
        return limits.rate_limited(self.contract, action, last, seconds)

    def check_robot(self, names: Sequence[str], *, reorder: bool = False) -> NDArray[np.int64]:
        """Check the driver's joints against the contract's, before anything moves.

        Args:
            names: Of the driver's joints, in its order.
            reorder: Take another order, and joints that the policy does not know.

        Returns:
            ``[J]``, for each joint of the contract its place in ``names``.

        Raises:
            ValueError: The contract names no joints, or they are not the driver's.
        """
        return robots.driver_order(self.contract, names, reorder=reorder)

    def _following(self, rows: int) -> Slots:
        """Return what is kept of the episodes of a batch."""
        if self._slots is None or not self._follows:
            episodes = np.arange(self._next_episode, self._next_episode + rows)
            self._slots = Slots(self.initial_state(rows), episodes)
            self._next_episode += rows
        elif len(self._slots.steps) != rows:
            raise ValueError(
                f"observation has {rows} rows, and the last one had {len(self._slots.steps)}: this "
                "policy follows each row through its episode. Call reset first."
            )
        return self._slots

    def _advance(
        self, feed: dict[str, Array], state: dict[str, Array], counters: NDArray[np.int64]
    ) -> tuple[Array, dict[str, Array], Likelihood | None]:
        """Return the actions of a step, the following state, and how likely actions are."""
        chunk = self.signature.chunk
        feed |= {f"state.{kept.name}": state[f"state.{kept.name}"] for kept in self.signature.state}
        if chunk is None:
            answers = self._run(self._with_noise(feed, counters))
            likelihood = stated.likelihood_of(self.contract, self.signature, answers)
            kept = {name: answers[name] for name in answers if name.startswith("state.")}
            return answers["action"], kept, likelihood
        asked = chunks.due(chunk, state)
        carried = {name: value for name, value in state.items() if name.startswith("state.")}
        answer = np.zeros((0, *self.signature.answer_shape), dtype=self.signature.action.dtype)
        if asked.all():
            carried = self._run(self._with_noise(feed, counters))
            answer = carried.pop("action")
        elif asked.any():
            part = {name: value[asked] for name, value in feed.items()}
            found = self._run(self._with_noise(part, counters[asked]))
            answer = found.pop("action")
            for name, value in found.items():
                carried[name] = carried[name].copy()
                carried[name][asked] = value
        action, queue = chunks.advance(chunk, state, asked, answer)
        return action, carried | queue, None

    def _run(self, feed: dict[str, Array]) -> dict[str, Array]:
        """Return the graph's answers, the next state by the names of the state; all are finite."""
        answers = dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
        for name, value in answers.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise overflow(value, name)
        answers.pop("scores", None)
        return {name.removeprefix("next_"): value for name, value in answers.items()}

    def _with_noise(self, feed: dict[str, Array], counters: NDArray[np.int64]) -> dict[str, Array]:
        """Return what the graph takes, with the noise ``[N, S]`` of a step where it takes any."""
        noise = self.signature.noise
        if noise is None:
            return feed
        shape = (len(counters), *noise.shape)
        if self._deterministic:
            return feed | {"noise": np.zeros(shape, dtype=np.float32)}
        return feed | {"noise": self._draws.of(counters).reshape(shape)}
