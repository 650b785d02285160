"""Runs the source of `kernels/experimental/hopper.py` without a GPU: Triton's interpreter does not know Gluon.

Tensors are torch tensors and layouts are ignored. Partitions of a block run as threads, one at a time, and a seeded
draw decides at every barrier, copy and product who goes on. Copies arrive at any moment between their start and the
completion of their barrier; until then their target holds rubbish. A product reads its operands until it is waited for:
if one of them changes before, that is an error, and so is a block in which nobody can go on. What this does not show:
whether the compiler keeps to the program, and what the hardware does.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

SOURCE = Path(__file__).parents[3] / "kernels" / "experimental" / "hopper.py"
# A byte that no E4M3 number has (NaN), and for INT8 a plausible but wrong one.
RUBBISH = 0x7F


class DeadlockError(AssertionError):
    """Every partition waits, and no copy is under way."""


class RaceError(AssertionError):
    """Memory changed while it was being read, or was written twice at once."""


class Stopped(BaseException):
    """Ends the other partitions after an error."""


class Partition(threading.Thread):
    """One partition of a block; runs only while the scheduler has handed over to it."""

    def __init__(self, block: Block, run: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        super().__init__(daemon=True)
        self.block, self.call = block, (run, arguments)
        self.go = threading.Semaphore(0)
        self.ready: Callable[[], bool] = lambda: True
        self.done = False
        self.error: BaseException | None = None
        self.in_flight: list[Product] = []

    def run(self) -> None:
        self.go.acquire()
        run, arguments = self.call
        try:
            if not self.block.stopped:
                run(*arguments)
                assert not self.in_flight, "a product is never waited for"
        except Stopped:
            pass
        except BaseException as error:
            self.error = error
        self.done = True
        self.block.turn.release()

    def hand_over(self, ready: Callable[[], bool] = lambda: True) -> None:
        """Let others go on, until it is this partition's turn again and `ready` holds."""
        self.ready = ready
        self.block.turn.release()
        self.go.acquire()
        if self.block.stopped:
            raise Stopped


class Block:
    """The scheduler of one block."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.turn = threading.Semaphore(0)
        self.copies: list[Copy] = []
        self.partitions: list[Partition] = []
        self.stopped = False

    def run(self, calls: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
        self.partitions = [Partition(self, *call) for call in calls]
        for partition in self.partitions:
            partition.start()
        try:
            while not all(partition.done for partition in self.partitions):
                able = [x for x in self.partitions if not x.done and x.ready()]
                if not able and not self.copies:
                    raise DeadlockError("every partition waits, and no copy is under way")
                chosen = self.draw.choice([*able, *self.copies])
                if isinstance(chosen, Copy):
                    self.copies.remove(chosen)
                    chosen.arrive()
                    continue
                chosen.go.release()
                self.turn.acquire()
                if chosen.error is not None:
                    raise chosen.error
        finally:
            self.stopped = True
            for partition in self.partitions:
                partition.go.release()
        assert not self.copies, "a copy is never waited for"


def partition() -> Partition:
    current = threading.current_thread()
    assert isinstance(current, Partition), "outside of warp_specialize"
    return current


class Barrier:
    """An mbarrier: its phase ends when all have arrived and all bytes have."""

    def __init__(self) -> None:
        self.count = 0

    def init(self, count: int) -> None:
        self.count = self.missing = count
        self.bytes = self.phase = 0

    def advance(self) -> None:
        assert self.missing >= 0
        if self.missing == 0 and self.bytes == 0:
            self.missing, self.phase = self.count, self.phase ^ 1


class Barriers:
    def __init__(self, shape: list[int]) -> None:
        self.barriers = [Barrier() for _ in range(shape[0] if len(shape) == 2 else 1)]

    def index(self, slot: int) -> Barrier:
        return self.barriers[int(slot)]


def barrier(x: Barriers | Barrier) -> Barrier:
    return x.index(0) if isinstance(x, Barriers) else x


class Shared:
    """Shared memory, or a view of it."""

    def __init__(self, data: Tensor) -> None:
        self.data, self.dtype, self.shape = data, data.dtype, list(data.shape)

    def index(self, slot: int) -> Shared:
        return Shared(self.data[int(slot)])

    def permute(self, order: tuple[int, ...]) -> Shared:
        return Shared(self.data.permute(order))


class Copy:
    """A TMA load; what lies outside the matrix is zero."""

    def __init__(self, matrix: Tensor, corner: tuple[int, int], target: Tensor, arrived: Barrier) -> None:
        self.target, self.arrived = target, arrived
        (row, column), (rows, columns) = corner, target.shape
        self.box = torch.zeros(rows, columns, dtype=torch.uint8)
        part = matrix.view(torch.uint8)[row : row + rows, column : column + columns]
        self.box[: part.shape[0], : part.shape[1]] = part
        target.view(torch.uint8).fill_(RUBBISH)

    def arrive(self) -> None:
        self.target.view(torch.uint8).copy_(self.box)
        self.arrived.bytes -= self.box.numel()
        self.arrived.advance()


class Product:
    """A product in flight; not a number before it has been waited for."""

    def __init__(self, a: Tensor | Shared, b: Shared, kind: torch.dtype) -> None:
        self.memory = [x.data for x in (a, b) if isinstance(x, Shared)]
        self.before = [x.clone() for x in self.memory]
        left = a.data if isinstance(a, Shared) else a
        assert (kind == torch.int32) == (left.dtype == torch.int8)
        # Exact for INT8.
        exact = left.double() @ b.data.double()
        self.value = exact.to(kind)
        self.retired = False

    def retire(self) -> None:
        for now, before in zip(self.memory, self.before, strict=True):
            if not torch.equal(now.contiguous().view(torch.uint8), before.contiguous().view(torch.uint8)):
                raise RaceError("an operand changed while a product read it")
        self.retired = True


class Pointer:
    """Elements of a flat memory; any number of them."""

    def __init__(self, memory: Tensor, at: int | Tensor = 0) -> None:
        self.memory, self.at = memory, at
        self.dtype = SimpleNamespace(element_ty=memory.dtype)

    @classmethod
    def to(cls, x: Tensor) -> Pointer:
        memory = x.as_strided((x.untyped_storage().size() // x.itemsize,), (1,), 0)
        return cls(memory, x.storage_offset())

    def __add__(self, step: int | Tensor) -> Pointer:
        return Pointer(self.memory, self.at + step)


class Descriptor:
    """In place of Gluon's TensorDescriptor."""

    def __init__(self, matrix: Tensor, box: list[int], layout: Any) -> None:
        self.matrix, self.layout, self.dtype = matrix, layout, matrix.dtype
        self.block_type = SimpleNamespace(nbytes=box[0] * box[1] * matrix.itemsize)
        self.box = box

    @classmethod
    def from_tensor(cls, matrix: Tensor, box: list[int], layout: Any) -> Descriptor:
        assert matrix.is_contiguous()
        return cls(matrix, box, layout)


class Kernel:
    """In place of a compiled function: callable from another one, and over a grid from outside."""

    def __init__(self, function: Callable[..., Any], machine: Machine) -> None:
        self.function, self.machine = function, machine

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
        def launch(*arguments: Any, num_warps: int, **constants: Any) -> None:
            assert num_warps == 4
            flat = [Pointer.to(x) if isinstance(x, Tensor) else x for x in arguments]
            self.machine.grid = grid
            for z in range(grid[2]):
                for y in range(grid[1]):
                    for x in range(grid[0]):
                        self.machine.program = (x, y, z)
                        self.function(*flat, **constants)

        return launch


class Machine:
    """What `gl` and its submodules are while `kernels/experimental/hopper.py` is read."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.grid = self.program = (0, 0, 0)

    def language(self) -> SimpleNamespace:
        def layout(*arguments: Any) -> tuple[Any, ...]:
            return arguments

        layout.get_default_for = layout  # type: ignore[attr-defined]

        def where(condition: Any, yes: Any, no: Any) -> Any:
            return torch.where(torch.as_tensor(condition), yes, no)

        def fold(pick: Callable[..., Tensor]) -> Callable[[Any, Any], Tensor]:
            return lambda x, y: pick(torch.as_tensor(x), torch.as_tensor(y))

        def load(pointer: Pointer) -> Tensor:
            at = torch.as_tensor(pointer.at)
            assert bool(((at >= 0) & (at < pointer.memory.numel())).all()), "a load outside of the tensor"
            return pointer.memory[at]

        def store(pointer: Pointer, value: Tensor, mask: Tensor) -> None:
            at, value, mask = torch.broadcast_tensors(pointer.at, value, mask)
            pointer.memory[at[mask]] = value[mask].to(pointer.memory.dtype)

        def allocate_shared_memory(dtype: torch.dtype, shape: list[int], _layout: Any) -> Any:
            if dtype == torch.int64:
                return Barriers(shape)
            return Shared(torch.full(shape, RUBBISH, dtype=torch.uint8).view(dtype))

        def warp_specialize(
            calls: list[tuple[Kernel, tuple[Any, ...]]], warps: list[int], registers: list[int]
        ) -> None:
            assert len(warps) == len(registers) == len(calls) - 1
            self.seed += 1
            Block(self.seed).run([(kernel.function, arguments) for kernel, arguments in calls])

        types = ("int8", "int32", "int64", "float32")
        return SimpleNamespace(
            **{name: getattr(torch, name) for name in types}, float8e4nv=torch.float8_e4m3fn, constexpr=None,
            NVMMASharedLayout=layout, NVMMADistributedLayout=layout, DotOperandLayout=layout, SliceLayout=layout,
            BlockedLayout=layout, static_range=range, where=where, load=load, store=store,
            exp2=torch.exp2, log2=torch.log2,
            # The GPU's maximum and minimum leave NaN out.
            minimum=fold(torch.minimum), maximum=fold(torch.fmax),
            max=lambda x, axis: x.nan_to_num(-torch.inf, torch.inf, -torch.inf).amax(axis), sum=torch.sum,
            arange=lambda start, end, layout: torch.arange(start, end),
            zeros=lambda shape, dtype, layout: torch.zeros(shape, dtype=dtype),
            convert_layout=lambda x, layout, assert_trivial=False: x, cdiv=lambda x, y: (x + y - 1) // y,
            program_id=lambda axis: torch.tensor(self.program[axis]),
            num_programs=lambda axis: torch.tensor(self.grid[axis]),
            allocate_shared_memory=allocate_shared_memory, warp_specialize=warp_specialize,
        )  # fmt: skip


def expect(full: Any, size: int) -> None:
    bar = barrier(full)
    bar.bytes += size
    bar.missing -= 1
    bar.advance()


def wait(bar: Any, phase: int) -> None:
    partition().hand_over(lambda: barrier(bar).phase != int(phase))


def arrive(bar: Any, *, count: int) -> None:
    partition().hand_over()
    barrier(bar).missing -= count
    barrier(bar).advance()


def start_copy(source: Descriptor, corner: list[Any], full: Any, target: Shared) -> None:
    partition().hand_over()
    block = partition().block
    assert target.shape == source.box
    if any(copy.target.data_ptr() == target.data.data_ptr() for copy in block.copies):
        raise RaceError("two copies into one buffer")
    block.copies.append(Copy(source.matrix, (int(corner[0]), int(corner[1])), target.data, barrier(full)))


def start_product(a: Any, b: Shared, zero: Tensor, *, use_acc: bool, is_async: bool) -> Product:
    assert is_async
    assert not use_acc
    product = Product(a, b, zero.dtype)
    assert product.value.shape == zero.shape
    partition().in_flight.append(product)
    partition().hand_over()
    return product


def wait_products(outstanding: int, deps: list[Any]) -> Any:
    partition().hand_over()
    in_flight = partition().in_flight
    while len(in_flight) > outstanding:
        in_flight.pop(0).retire()
    assert all(x.retired for x in deps), "a product is read before it has been waited for"
    values = tuple(x.value for x in deps)
    return values if len(values) > 1 else values[0]


def interpreted_hopper(seed: int = 0, source: str | None = None) -> ModuleType:
    """`kernels/experimental/hopper.py`, or a changed `source` of it, read as a program for this interpreter."""
    machine = Machine(seed)
    gl = machine.language()
    gluon = SimpleNamespace(jit=lambda function: Kernel(function, machine), language=gl)
    hopper = SimpleNamespace(
        mbarrier=SimpleNamespace(
            init=lambda bar, count: barrier(bar).init(count), expect=expect, wait=wait, arrive=arrive,
            MBarrierLayout=tuple,
        ),
        tma=SimpleNamespace(async_copy_global_to_shared=start_copy),
        warpgroup_mma=start_product, warpgroup_mma_wait=wait_products,
    )  # fmt: skip
    root = "triton.experimental"
    fakes: dict[str, Any] = {
        root: SimpleNamespace(gluon=gluon),
        f"{root}.gluon": gluon,
        f"{root}.gluon.language.nvidia.hopper": hopper,
        f"{root}.gluon.nvidia.hopper": SimpleNamespace(TensorDescriptor=Descriptor),
    }
    spec = importlib.util.spec_from_loader("interpreted_hopper", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    with patch.dict(sys.modules, fakes):
        exec(compile(SOURCE.read_text() if source is None else source, SOURCE, "exec"), module.__dict__)  # noqa: S102
    return module
