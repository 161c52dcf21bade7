"""Lowering: one update as a C++ function of pointers, its loops written by PyTorch's compiler.

What ``torch.compile`` makes of a chunk spends as long on allocating, viewing and handing over small
tensors as on numbers. Here the compiler's loops are taken as they are, products are those of
``products.h``, and every intermediate result has its place in one block of memory. This is the only
module that reads the compiler's inner state; what it does not know it refuses, and the engine goes
another way.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor
from torch._inductor import compile_fx as _compile_fx
from torch._inductor import config, ir
from torch._inductor.codegen import wrapper as lines
from torch._inductor.codegen.common import get_device_op_overrides
from torch._inductor.cpp_builder import CppBuilder, CppTorchDeviceOptions
from torch._inductor.cpu_vec_isa import pick_vec_isa
from torch._inductor.debug import DebugContext
from torch._inductor.decomposition import select_decomp_table
from torch._inductor.graph import GraphLowering
from torch._inductor.utils import LineContext
from torch._inductor.virtualized import V
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from hindsight_rl.training.update.operations import Operation, Place
from hindsight_rl.training.update.products import Matrix, Products, written
from hindsight_rl.training.update.programs import Program
from hindsight_rl.training.update.writing import write

# Lines that say nothing about what is computed.
_SILENT = (
    *(LineContext, lines.CommentLine, lines.NullLine, lines.AssertSizeStrideLine),
    *(lines.FreeLine, lines.FreeIfNotReusedLine),
)
# Bytes per second, and what an operation takes at least.
_BYTES, _LEAST = 80e9, 2e-7
_aten = torch.ops.aten
compile_fx: Any = _compile_fx  # little of it is typed


class UnknownError(Exception):
    """The function does something that this module cannot write down."""


def lower(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    moved: int,
    threads: int,
    products: Products = "float32",
) -> tuple[Program, tuple[Tensor, ...]]:
    """Return a loop over a function in C++, and the constants that it reads.

    Args:
        function: Returns the first ``moved`` inputs as they are after it, and one tensor more. It
            depends on nothing but its inputs, and changes none.
        inputs: Tensors of the shapes, strides and dtypes that it will be called with.
        moved: How many of the inputs are the state that an update moves.
        threads: Threads of an update.
        products: What large products are computed in.

    Returns:
        The program, and the tensors that are its inputs after those of the function.

    Raises:
        UnknownError: It cannot be written down.
    """
    traced = make_fx(torch.func.functionalize(function), decomposition_table=select_decomp_table())(
        *inputs
    )
    for node in traced.graph.nodes:
        if torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()):
            raise UnknownError(f"{node.target} draws from a generator")
    # Whose memory is used again for what is decided when it is known who does what.
    options = {"cpp.threads": threads, "allow_buffer_reuse": False}
    with config.patch(options), torch.no_grad():
        return _lowered(traced, inputs, moved, threads, products)


def build(source: str) -> bytes:
    """Return a program as the C++ compiler makes it, a shared library.

    Args:
        source: Of :class:`Program`.

    Returns:
        The bytes of its file.
    """
    options = CppTorchDeviceOptions(vec_isa=pick_vec_isa(), device_type="cpu")
    with TemporaryDirectory() as folder:
        file = Path(folder, "updates.cpp")
        file.write_text(source, encoding="utf-8")
        builder = CppBuilder("updates", str(file), options, output_dir=folder)
        builder.build()
        return Path(builder.get_target_file_path()).read_bytes()


class _Lines(lines.PythonWrapperCodegen):
    """Keeps what the compiler has to say as lines, and writes nothing."""


class _Graph(GraphLowering):
    def init_wrapper_code(self, *_: Any, **__: Any) -> None:
        self.device_type = "cpu"
        self.device_ops = get_device_op_overrides("cpu")
        self.wrapper_code = cast(Any, _Lines)()


def _lowered(
    traced: torch.fx.GraphModule,
    inputs: Sequence[Tensor],
    moved: int,
    threads: int,
    products: Products,
) -> tuple[Program, tuple[Tensor, ...]]:
    """Run the compiler up to the point where it would write Python."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fake = [mode.from_tensor(tensor) for tensor in inputs]
    compile_fx.view_to_reshape(traced)
    mode = compile_fx.fake_tensor_prop(traced, fake)
    with V.set_fake_mode(mode):
        compile_fx._recursive_joint_graph_passes(traced)
        compile_fx._recursive_post_grad_passes(traced, is_inference=True)
    with (
        V.set_fake_mode(mode),
        compile_fx.maybe_disable_comprehensive_padding(fake),
        compile_fx.maybe_disable_graph_partition(False, False),
    ):
        graph = _Graph(traced, example_inputs=fake, is_inference=True)
        with (
            V.set_debug_handler(DebugContext()),
            V.set_graph_handler(graph),
            V.set_extern_kernel_nodes([]),
        ):
            graph.run(*fake)
            graph.init_wrapper_code()
            graph._update_scheduler()
            wrapper = graph.wrapper_code
            wrapper.push_codegened_graph(graph)
            graph.scheduler.codegen()
            wrapper.run_wrapper_ir_passes(True)
            reader = _Reader(graph, wrapper.lines, products)
            return reader.program(moved, threads), tuple(graph.constants.values())


class _Reader:
    """Reads the compiler's lines as operations on bytes.

    Args:
        graph: The compiler's graph.
        told: Its lines.
        products: What large products are computed in.
    """

    def __init__(self, graph: GraphLowering, told: Sequence[Any], products: Products) -> None:
        self._graph, self._products = graph, products
        self._kernels: dict[str, str] = {}
        self._operations: list[Operation] = []
        self._places: dict[str, Place] = {}
        self._blocks: dict[str, int] = {}
        self._packed = 0
        self._inputs = {**graph.graph_inputs, **graph.constants}
        for number, (name, node) in enumerate(self._inputs.items()):
            self._places[name] = Place(f"in[{number}]", 0, _size_of(node))
        self._results = self._named_results(told)
        for line in told:
            self._read(line)

    def program(self, moved: int, threads: int) -> Program:
        """Return the operations as a program."""
        for number, node in enumerate(self._graph.graph_outputs):
            self._end(number, node)
        seen = tuple(int(size) for size in self._graph.graph_outputs[-1].get_size())
        source, room = write(
            *(self._operations, self._blocks, self._kernels, self._packed),
            *(moved, len(self._inputs), threads, self._products),
        )
        return Program(source, room, seen)

    def _read(self, line: Any) -> None:
        known: dict[type, Callable[[Any], None]] = {
            lines.KernelDefinitionLine: self._define,
            lines.KernelCallLine: self._call,
            lines.ExternKernelOutLine: lambda line: self._product(line.node),
            lines.AllocateLine: lambda line: self._allocate(line.node),
            lines.ReuseLine: lambda line: self._view(line.reused_as, line.node, 0),
            lines.ReinterpretLine: self._reinterpret,
        }
        if type(line) in known:
            known[type(line)](line)
        elif not isinstance(line, _SILENT):
            raise UnknownError(f"{type(line).__name__} ({str(line)[:80]})")

    # ------------------------------------------------------------------ memory

    def _named_results(self, written: Sequence[Any]) -> dict[str, int]:
        """Return which buffers are results from the start, and need not be copied there."""
        before = {
            line.reused_as.get_name(): line.node.get_name()
            for line in written
            if isinstance(line, lines.ReuseLine)
        }
        found: dict[str, int] = {}
        for number, node in enumerate(self._graph.graph_outputs):
            name = node.get_name()
            while name in before:
                name = before[name]
            found.setdefault(name, number)
        return found

    def _allocate(self, node: Any) -> None:
        name, size = node.get_name(), _size_of(node)
        block = f"out[{self._results[name]}]" if name in self._results else name
        self._places[name] = Place(block, 0, size)
        if block == name:
            self._blocks[name] = size

    def _reinterpret(self, line: Any) -> None:
        layout: Any = line.layout
        if isinstance(layout, ir.NonOwningLayout):
            layout = cast(Any, layout.view).layout
        self._view(line.reused_as, line.node, int(layout.offset))

    def _view(self, new: Any, old: Any, offset: int) -> None:
        block, start, _ = self._place(old.get_name())
        start += offset * new.get_dtype().itemsize
        self._places[new.get_name()] = Place(block, start, start + _size_of(new))

    def _place(self, name: Any) -> Place:
        if not isinstance(name, str) or name not in self._places:
            raise UnknownError(f"an argument {name}")
        return self._places[name]

    def _place_of(self, node: Any) -> Place:
        """Return the place of a buffer or of a view of one."""
        # A name stands for where its tensor begins; only a view adds to that.
        boxed = isinstance(node, ir.StorageBox | ir.TensorBox)
        inner: Any = node.data if boxed else node
        offset = int(inner.layout.offset) if type(inner) is ir.ReinterpretView else 0
        block, start, _ = self._place(node.get_name())
        start += offset * node.get_dtype().itemsize
        return Place(block, start, start + _size_of(node))

    # ------------------------------------------------------------------ loops and products

    def _define(self, line: Any) -> None:
        found = re.search(r"r'''(.*)'''", line.kernel_body, re.DOTALL)
        if found is None:
            raise UnknownError(f"a kernel {line.kernel_name} that is no C++")
        code = re.sub(r"^\s*#include.*$", "", found[1], flags=re.MULTILINE)
        head = r'extern "C"\s+void\s+kernel\('
        code, count = re.subn(
            head, "static void {name}(", code.replace("{", "{{").replace("}", "}}")
        )
        if count != 1:
            raise UnknownError(f"the head of the kernel {line.kernel_name}")
        self._kernels[line.kernel_name] = code

    def _call(self, line: Any) -> None:
        places = tuple(self._place(name) for name in line.call_args)
        given = [f"({kind}){{{number}}}" for number, kind in enumerate(line.arg_types)]
        written = [n for n, kind in enumerate(line.arg_types) if not kind.startswith("const ")]
        sizes = [place.stop - place.start for place in places]
        # Of the state it most often reads a slice.
        largest = max(sizes[n] for n in written)
        seconds = _LEAST + sum(min(size, largest) for size in sizes) / _BYTES
        call = f"{line.kernel_name}{{alone}}({', '.join(given)});"
        self._operations.append(Operation(call, places, frozenset(written), seconds))

    def _product(self, node: Any) -> None:
        """Read a product of matrices, or one for each of a batch."""
        if node.op_overload not in (_aten.mm.out, _aten.bmm.out) or node.output_view is not None:
            raise UnknownError(str(node.op_overload))
        left, right, out = (self._matrix(each) for each in (*node.inputs, node))
        if out.column != 1:  # its transpose is the product of their transposes
            left, right, out = right.transposed(), left.transposed(), out.transposed()
        if out.column != 1:
            raise UnknownError(f"a product with strides {node.get_stride()}")
        call, room, seconds = written(left, right, out, self._products)
        self._packed = max(self._packed, room)
        places = (left.place, right.place, out.place)
        self._operations.append(Operation(call, places, frozenset({2}), _LEAST + seconds))

    def _matrix(self, node: Any) -> Matrix:
        if node.get_dtype() != torch.float32:
            raise UnknownError(f"a product of {node.get_dtype()}")
        size, stride = [int(n) for n in node.get_size()], [int(n) for n in node.get_stride()]
        if len(size) == 2:
            size, stride = [1, *size], [0, *stride]
        return Matrix(self._place_of(node), *size, *stride)

    def _end(self, number: int, node: Any) -> None:
        """Copy a result to where it is looked for, unless it is there."""
        place = self._place_of(node)
        size = place.stop - place.start
        if not _is_dense(node):
            raise UnknownError(f"a result of strides {node.get_stride()}")
        to = Place(f"out[{number}]", 0, size)
        if place != to:
            call = f"std::memcpy({{1}}, {{0}}, {size});"
            written, seconds = frozenset({1}), _LEAST + size / _BYTES
            self._operations.append(Operation(call, (place, to), written, seconds))


def _is_dense(node: Any) -> bool:
    """Return whether numbers lie one behind the other, row by row."""
    step = 1
    for size, stride in zip(reversed(node.get_size()), reversed(node.get_stride()), strict=True):
        if size not in (0, 1) and stride != step:
            return False
        step *= size
    return True


def _size_of(node: Any) -> int:
    """Return the bytes from a tensor's first number to its last."""
    if isinstance(node, Tensor):
        size, stride, dtype = node.shape, node.stride(), node.dtype
    else:
        size, stride, dtype = node.get_size(), node.get_stride(), node.get_dtype()
    if 0 in size:
        return 0
    last = sum((int(n) - 1) * int(s) for n, s in zip(size, stride, strict=True))
    return (last + 1) * int(dtype.itemsize)
