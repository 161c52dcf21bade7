"""Engine: K updates of S seeds as one function of a few tensors, compiled into one graph.

Losses, gradients, clipping, Adam, target step and metrics of one update are a pure function of the
state (:class:`hindsight_rl.training.update.state.State`) and a batch. ``torch.func`` takes the
gradient, ``vmap`` runs it for every seed, and a scan over the chunk puts all K updates behind one
call: no Python and no guard per update. On the CPU the chunk is one call of C++ where that can be
written down (:mod:`hindsight_rl.training.update.native`). A learner's author sees none of it.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.keys import Key, is_below
from hindsight_rl.training.update.adam import adam, rules_of, unmoved
from hindsight_rl.training.update.capture import assign, captured, fresh
from hindsight_rl.training.update.functional import Losses, batch_of, fixed_of, online_names
from hindsight_rl.training.update.groups import shares
from hindsight_rl.training.update.products import Products
from hindsight_rl.training.update.schedule import Schedule
from hindsight_rl.training.update.state import SeedStates
from hindsight_rl.training.update.steps import clip_factor, in_phase

if TYPE_CHECKING:
    from hindsight_rl.training.module import LearnerModule
    from hindsight_rl.training.update.native import Native

scan: Callable[..., Any] | None
try:
    from torch._higher_order_ops.scan import scan as _scan
except ImportError:  # not public: a release may move it, see no_scan
    scan = None
else:
    scan = _scan

LOGGER = logging.getLogger("hindsight_rl")

Rows = tuple[Tensor, ...]
"""The tensors of a :class:`State`, or of one row of it."""

# A weight matrix up to this size is faster batched over the seeds, be it over one seed.
SMALL_MATRIX = 128 * 128

# The calls of the graph's kernels in C++ too: in Python they cost a third of a small update.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"cpp_wrapper": True}


class Track(NamedTuple):
    """What was seen in the updates of a chunk.

    Args:
        names: Names of terms, then of metrics.
        terms: Number of terms.
        values: ``[K, S, n]`` float32.
    """

    names: list[str]
    terms: int
    values: Tensor


class CompileError(ValueError):
    """The updates of a learner cannot be compiled. Nothing was changed by the attempt."""


def _told(error: Exception) -> str:
    """Return the kind of an exception and the first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The compiler opens some of its messages with a line that only announces the next.
    said = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    return f"{type(error).__name__}: {said}".rstrip(": .")


def native_class() -> "type[Native] | None":
    """Return what writes updates as C++; ``None`` with a release whose compiler is another."""
    try:  # imported where it is needed: the compiler takes a second
        from hindsight_rl.training.update.native import Native
    except ImportError:
        return None
    return Native


class Engine:
    """Runs the updates of a chunk on the state of all seeds.

    Args:
        learner: The learner; of it only ``losses``, ``read_keys``, ``targets``, ``tau``,
            ``every``, ``begins`` and ``phases`` are used.
        optimizer: Adam or AdamW; its groups give the rates, its state is kept up to date.
        states: The state.
        networks: Parameters of each network by name, in the order of the state.
        clip_norm: Largest gradient norm of each network.
        watch: Measure gradient norms even where nothing is clipped.
        compiled: Compile the chunk into one graph.
        capture: Replay one compiled update as a CUDA graph; on CUDA only.
        threads: Threads that share the seeds of a compiled update, on the CPU.
        inside: Threads within a compiled update, on the CPU.
        products: What large products of a compiled update are computed in, on the CPU.
    """

    def __init__(
        self,
        learner: "LearnerModule",
        optimizer: torch.optim.Optimizer,
        states: SeedStates,
        networks: Mapping[str, list[nn.Parameter]],
        *,
        clip_norm: float | None = None,
        watch: bool = False,
        compiled: bool = True,
        capture: bool = False,
        threads: int = 1,
        inside: int = 1,
        products: Products = "float32",
    ) -> None:
        self._losses, self._states, self._optimizer = Losses(learner), states, optimizer
        self._reads: tuple[Key, ...] = learner.read_keys
        self._networks = states.spans(networks)
        self._clip_norm, self._watch = clip_norm, watch or clip_norm is not None
        self._rules = rules_of(optimizer, states, learner.every, learner.begins)
        self._phases: tuple[tuple[str, ...] | None, ...] = learner.phases or (None,)
        self._online = online_names(states, learner.targets)
        self._schedule = Schedule(learner, optimizer, states, self._rules)
        self._fixed = fixed_of(learner, states)
        self._given: dict[str, Tensor] = {}  # tensors in the place of those, see _native
        largest = max(p.numel() for p in dict(learner.named_parameters()).values())
        self._batched = states.count > 1 or largest <= SMALL_MATRIX
        self._names: list[str] = []
        self._keys: list[Key] = []
        self._terms = 0
        self.why_sequential = ""
        self._compiled, self._capture, self._how = compiled, capture, (inside, products)
        self._groups = shares(states.count, threads if compiled and not capture else 1)
        self._pool: ThreadPoolExecutor | None = None
        self._run: Callable[..., Tensor] | None = None
        self._program: Native | None = None

    @property
    def started(self) -> bool:
        """Whether a chunk was run."""
        return self._run is not None

    def run(self, chunk: TensorDict, rates: Callable[[int], None] | None, first: int) -> Track:
        """Run the updates of a chunk and move the state.

        Args:
            chunk: TensorDict ``[K, B]``, or ``[K, S, B]`` for several seeds.
            rates: Sets the optimiser's rates for an update number; ``None`` if they never change.
            first: Number of the chunk's first update.

        Returns:
            What was seen, before each update.

        Raises:
            CompileError: The first chunk cannot be compiled.
        """
        names, batch = self._select(chunk)
        table = self._schedule.table(len(chunk), rates, first)
        with torch.no_grad():
            if self._run is None:
                self._probe(names, [x[0] for x in batch], table[0])
                values = self._first(names, table, batch)
            else:
                values = self._run_groups(table, batch)
        self._schedule.count(len(chunk), first)
        return Track(self._names, self._terms, values)

    def _first(self, names: Sequence[Key], table: Tensor, batch: Sequence[Tensor]) -> Tensor:
        """Run the chunk that compiles; what it fails with is the compiler's, not a loss's."""
        try:
            self._run = self._native(names, table, batch) or self._build(names)
            return self._run_groups(table, batch)
        except Exception as error:
            self._run = None
            if not self._compiled:
                raise
            raise CompileError(_told(error)) from error

    def give_up_compiling(self) -> None:
        """Run the updates as they are from now on."""
        self._compiled, self._capture = False, False
        self._groups = shares(self._states.count, 1)

    def _run_groups(self, table: Tensor, batch: Sequence[Tensor]) -> Tensor:
        """Run every group of seeds in a thread of its own; seeds have nothing in common."""
        plain = self._run
        if plain is None:
            raise RuntimeError("nothing is built yet")
        native = plain is self._program
        several = self._compiled and len(table) > 1 and not self._capture and not native

        def run(group: slice) -> Tensor:
            # A part of the same shape for each, so that one compiled function serves all.
            state = tuple(matrix[group] for matrix in self._states.state)
            part = (table, *(tensor[:, group] for tensor in batch))
            part = part if native else tuple(tensor.contiguous() for tensor in part)
            if several:
                for tensor in part:
                    torch._dynamo.mark_dynamic(tensor, 0)
            return plain(state, *part)

        def in_thread(group: slice) -> Tensor:
            torch.set_num_threads(1)
            with torch.no_grad():
                return run(group)

        # Autocast is a matter of the thread; the first call compiles, and a chunk of one does too.
        alone = len(self._groups) == 1 or torch.is_autocast_enabled(table.device.type)
        if not alone and len(table) > 1 and self._pool is not None:
            return torch.cat(list(self._pool.map(in_thread, self._groups)), dim=1)
        found = [run(group) for group in self._groups]
        if not alone and len(table) > 1:
            self._pool = ThreadPoolExecutor(len(self._groups))
        return torch.cat(found, dim=1)

    def _select(self, chunk: TensorDict) -> tuple[list[Key], list[Tensor]]:
        """Return the tensors ``[K, S, B, ...]`` the losses may read, entry by entry, and keys."""
        if self._run is None:  # the program of the first chunk knows no others
            present = list(chunk.keys(include_nested=True, leaves_only=True))
            self._keys = [leaf for key in self._reads for leaf in present if is_below(leaf, key)]
        tensors = [chunk[key] for key in self._keys]
        if self._states.count == 1:
            tensors = [tensor.unsqueeze(1) for tensor in tensors]
        return self._keys, tensors

    # ------------------------------------------------------------------ one update

    def _update(self, names: Sequence[Key], rows: Rows, table: Tensor, batch: Rows) -> Any:
        """Return the rows ``[P]`` after one update of one seed, and its terms and metrics."""
        rates, tau = self._schedule.split(table)
        parameters, first, second, targets, buffers = rows
        layout, target_layout, buffer_layout = self._states.layouts
        terms: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        for phase in self._phases:

            def total(
                trained: dict[str, Tensor],
                moving: dict[str, Tensor],
                columns: Rows,
                phase: tuple[str, ...] | None = phase,
                targets: Tensor = targets,
            ) -> Any:
                held = {**self._given, **trained, **target_layout.split(targets), **moving}
                found = self._losses.call(held, batch_of(names, columns))
                moved = {name: term for name, term in found.terms.items() if in_phase(name, phase)}
                return sum(moved.values()), (moved, found.metrics, moving)

            moving = {name: part.clone() for name, part in buffer_layout.split(buffers).items()}
            gradients, (moved, seen, moving) = torch.func.grad(total, has_aux=True)(
                layout.split(parameters), moving, batch
            )
            gradient, norms = self._clip(layout.join(gradients), phase)
            parts = [
                adam(rule, row, parameters, gradient, first, second)
                if in_phase(rule.name, phase)
                else unmoved(rule, parameters, first, second)
                for rule, row in zip(self._rules, rates, strict=True)
            ]
            parameters, first, second = (torch.cat(part) for part in zip(*parts, strict=True))
            if moving:
                buffers = buffer_layout.join(moving)
            terms, metrics = terms | moved, seen | metrics | norms
        if self._online:
            online = layout.split(parameters)
            follow = torch.cat([online[name].reshape(-1) for name in self._online])
            targets = torch.lerp(targets, follow, tau)
        if not torch.compiler.is_compiling():  # tried once before, see _probe
            self._names = [*terms, *metrics]
            self._terms = len(terms)
        values = [*terms.values(), *metrics.values()]
        track = torch.stack([value.detach().float() for value in values])
        return (parameters, first, second, targets, buffers), track

    def _clip(
        self, gradient: Tensor, phase: tuple[str, ...] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the gradient with every network clipped by itself, and the norms before."""
        if not self._watch:
            return gradient, {}
        parts, norms = [], {}
        for span in self._networks:
            part = gradient[span.start : span.stop]
            norm = torch.linalg.vector_norm(part)
            if in_phase(span.name, phase):
                norms[f"{span.name}/gradient_norm"] = norm
            if self._clip_norm is not None:
                part = part * clip_factor(norm, self._clip_norm)
            parts.append(part)
        return torch.cat(parts), norms

    # ------------------------------------------------------------------ all seeds, all updates

    def _probe(self, names: Sequence[Key], batch: Sequence[Tensor], table: Tensor) -> None:
        """Try one update without effect: learn the names, and whether seeds can be batched."""
        state, columns, several = tuple(self._states.state), tuple(batch), self._states.count > 1
        if self._batched:
            try:
                self._together(names, state, table, columns)
                return
            except Exception as error:  # whatever a loss does that vmap cannot
                self._batched, self.why_sequential = False, _told(error)
        try:
            self._alone(names, state, table, columns)
        except Exception as error:
            if several:  # most likely a mistake in the loss, which shows as itself
                raise
            raise CompileError(_told(error)) from error
        if several:
            self.give_up_compiling()

    def _together(self, names: Sequence[Key], rows: Rows, table: Tensor, batch: Rows) -> Any:
        def one(rows: Rows, batch: Rows) -> Any:
            return self._update(names, rows, table, batch)

        return torch.vmap(one)(rows, batch)

    def _alone(self, names: Sequence[Key], rows: Rows, table: Tensor, batch: Rows) -> Any:
        """One seed after another."""
        done = [
            self._update(names, tuple(r[seed] for r in rows), table, tuple(b[seed] for b in batch))
            for seed in range(len(rows[0]))
        ]
        moved = tuple(torch.stack(row) for row in zip(*[rows for rows, _ in done], strict=True))
        return moved, torch.stack([seen for _, seen in done])

    def _native(
        self, names: Sequence[Key], table: Tensor, batch: Sequence[Tensor]
    ) -> Callable[..., Tensor] | None:
        """Return the updates of a chunk as C++; ``None`` where that cannot be written."""
        native = native_class() if self._compiled and table.device.type == "cpu" else None
        if native is None or torch.is_autocast_enabled("cpu"):  # products of half precision
            return None
        group = self._groups[0]
        state = tuple(matrix[group] for matrix in self._states.state)
        columns = (table, *(tensor[:, group] for tensor in batch))

        def fixed() -> Rows:
            return tuple(getattr(module, name) for module, name in self._fixed.values())

        ways = [] if self.why_sequential else [self._together]
        for way in ways if self._batched else [*ways, self._alone]:

            def step(rows: Rows, columns: Rows, given: Rows, way: Any = way) -> Any:
                self._given = dict(zip(self._fixed, given, strict=True))
                try:
                    return way(names, rows, columns[0], columns[1:])
                finally:
                    self._given = {}

            try:
                self._program = native(step, state, columns, fixed, *self._how)
            except Exception as error:  # whatever it does not know, of any release
                if self._how[1] != "float32":
                    raise
                LOGGER.debug("not written as C++: %s", _told(error))
            else:
                return self._program
        return None

    def _build(self, names: Sequence[Key]) -> Callable[..., Tensor]:
        """Return the function that makes the updates of a chunk in place."""
        step = self._together if self._batched else self._alone

        def loop(state: Rows, table: Tensor, *batch: Tensor) -> Tensor:
            rows, seen = state, []
            for update in range(len(table)):
                rows, values = step(names, rows, table[update], tuple(x[update] for x in batch))
                seen.append(values)
            assign(state, rows)
            return torch.stack(seen)

        # Empty matrices (no targets, no buffers) stay out of the scan, which compares strides.
        kept = [number for number, row in enumerate(self._states.state) if row.numel()]

        def scanned(state: Rows, table: Tensor, *batch: Tensor) -> Tensor:
            def body(carried: Rows, columns: Rows) -> Any:
                rows = list(state)
                for number, row in zip(kept, carried, strict=True):
                    rows[number] = row
                moved, seen = step(names, tuple(rows), columns[0], columns[1:])
                return tuple(moved[number] for number in kept), seen

            carried = tuple(state[number].clone() for number in kept)
            assert scan is not None  # see no_scan
            rows, seen = scan(body, carried, (table, *batch))
            assign(tuple(state[number] for number in kept), rows)
            values: Tensor = seen
            return values

        if not self._compiled:
            return loop
        if self._capture:
            return captured(torch.compile(fresh(loop), fullgraph=True))
        return torch.compile(fresh(scanned), fullgraph=True, dynamic=False, options=OPTIONS)
