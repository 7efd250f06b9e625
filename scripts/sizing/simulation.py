"""A discrete-event simulation of the stack on one machine (simpy).

A picture passes the gateway's event loop, a decoder, Triton's batcher and an instance of the encoder. All of them share
the machine's cores as the kernel does: by weight, no task on more cores than it has threads. Nothing in here is fitted
to a latency curve: the service times are those that each part takes alone.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import simpy

NICE_WEIGHT = {0: 1024, 5: 335}  # of the kernel's scheduler (sched_prio_to_weight)
ENCODER_NICE = 5  # Triton's model processes give way to what feeds them
WARM_UP = 0.2  # of the answers, the first that do not count: all requests come at once
Process = Generator[simpy.Event, Any, None]


@dataclass(frozen=True, slots=True)
class Machine:
    """What one machine has and needs.

    Attributes:
        cores: of the machine.
        gateway_s: core-seconds of the event loop for a picture.
        decode_s: core-seconds of a decoder for a picture.
        encode_s: core-seconds of one instance for a batch, by its size, on one thread.
        lone_s: core-seconds of a batch of one that has all cores, because no other runs.
        instances: of the encoder.
        max_batch: pictures.
        delay_s: how long the batcher waits for others.
        decoders: processes.
    """

    cores: int
    gateway_s: float
    decode_s: float
    encode_s: dict[int, float]
    lone_s: float
    instances: int
    max_batch: int
    delay_s: float
    decoders: int = 2

    def batch_s(self, size: int) -> float:
        """Return the core-seconds of a batch; sizes that were not measured lie on the line between those that were."""
        if size in self.encode_s:
            return self.encode_s[size]
        below = max(known for known in self.encode_s if known < size)
        above = min((known for known in self.encode_s if known > size), default=below)
        if above == below:
            return self.encode_s[below] * size / below
        share = (size - below) / (above - below)
        return self.encode_s[below] + share * (self.encode_s[above] - self.encode_s[below])


@dataclass(slots=True, eq=False)
class Task:
    """Work under way: core-seconds left, the most cores it can use, and its weight among the others."""

    left_s: float
    threads: int
    weight: float
    done: simpy.Event
    rate: float = 0.0


class Cores:
    """Cores shared by weight; every change of who runs is an event."""

    def __init__(self, environment: simpy.Environment, count: int) -> None:
        self._environment = environment
        self._count = count
        self._running: list[Task] = []
        self._since = 0.0
        self._version = 0
        self.busy_s = 0.0

    def work(self, core_s: float, threads: int = 1, nice: int = 0) -> simpy.Event:
        """Return the event of some work's end."""
        task = Task(core_s, threads, NICE_WEIGHT[nice], self._environment.event())
        self._advance()
        self._running.append(task)
        self._share()
        return task.done

    def _advance(self) -> None:
        elapsed = self._environment.now - self._since
        self._since = self._environment.now
        for task in self._running:
            task.left_s -= task.rate * elapsed
            self.busy_s += task.rate * elapsed

    def _share(self) -> None:
        """Give each task its part: those that cannot use theirs leave the rest to the others."""
        free, open_tasks = float(self._count), list(self._running)
        while open_tasks:
            each = free / sum(task.weight for task in open_tasks)
            full = [task for task in open_tasks if task.threads <= each * task.weight]
            for task in full or open_tasks:
                task.rate = float(task.threads) if full else each * task.weight
                free -= task.rate
            open_tasks = [task for task in open_tasks if task not in full] if full else []
        self._version += 1
        if self._running:
            first = min(task.left_s / task.rate for task in self._running)
            self._environment.process(self._end(self._version, max(first, 0.0)))

    def _end(self, version: int, after_s: float) -> Process:
        yield self._environment.timeout(after_s)
        if version != self._version:
            return  # the shares have changed meanwhile
        self._advance()
        ended = [task for task in self._running if task.left_s <= 1e-9]
        self._running = [task for task in self._running if task.left_s > 1e-9]
        self._share()
        for task in ended:
            task.done.succeed()


class Batcher:
    """Triton's dynamic batcher: a free instance takes all that waits, up to a batch, once the first has waited."""

    def __init__(self, environment: simpy.Environment, cores: Cores, machine: Machine) -> None:
        self._environment, self._cores, self._machine = environment, cores, machine
        self._waiting: list[tuple[float, simpy.Event]] = []
        self._free = machine.instances
        self.sizes: list[int] = []

    def ask(self) -> simpy.Event:
        """Return the event of an answer."""
        answer = self._environment.event()
        self._waiting.append((self._environment.now, answer))
        self._environment.process(self._look_later())
        self._look()
        return answer

    def _look_later(self) -> Process:
        yield self._environment.timeout(self._machine.delay_s)
        self._look()

    def _look(self) -> None:
        due = self._environment.now - self._machine.delay_s + 1e-9
        while self._free and self._waiting:
            if len(self._waiting) < self._machine.max_batch and self._waiting[0][0] > due:
                return
            batch = self._waiting[: self._machine.max_batch]
            del self._waiting[: len(batch)]
            self._free -= 1
            self.sizes.append(len(batch))
            self._environment.process(self._encode([answer for _, answer in batch]))

    def _encode(self, answers: list[simpy.Event]) -> Process:
        machine = self._machine
        alone = self._free == machine.instances - 1 and len(answers) == 1
        core_s, threads = (machine.lone_s, machine.cores) if alone else (machine.batch_s(len(answers)), 1)
        yield self._cores.work(core_s, threads, ENCODER_NICE)
        self._free += 1
        for answer in answers:
            answer.succeed()
        self._look()


@dataclass(slots=True)
class Curve:
    """One level: pictures a second, and seconds from request to answer, of those that count.

    Attributes:
        rate: pictures a second.
        latencies_s: ascending.
        batch: mean size.
        busy: share of the cores in use.
    """

    rate: float
    latencies_s: list[float] = field(repr=False)
    batch: float
    busy: float

    def percentile_s(self, share: float) -> float:
        """Return the latency that a share of the pictures stays under."""
        return self.latencies_s[min(len(self.latencies_s) - 1, int(share * len(self.latencies_s)))]


class Stack:
    """The parts, and pictures that pass them."""

    def __init__(self, machine: Machine) -> None:
        self.environment = simpy.Environment()
        self._machine = machine
        self._cores = Cores(self.environment, machine.cores)
        self._loop = simpy.Resource(self.environment, 1)
        self._decoders = simpy.Resource(self.environment, machine.decoders)
        self._batcher = Batcher(self.environment, self._cores, machine)
        self._answers: list[tuple[float, float]] = []

    def picture(self) -> Process:
        """Pass one picture through."""
        start = self.environment.now
        yield from self._held(self._loop, self._machine.gateway_s / 2)
        yield from self._held(self._decoders, self._machine.decode_s)
        yield self._batcher.ask()
        yield from self._held(self._loop, self._machine.gateway_s / 2)
        self._answers.append((self.environment.now, self.environment.now - start))

    def _held(self, resource: simpy.Resource, core_s: float) -> Process:
        with resource.request() as turn:
            yield turn
            yield self._cores.work(core_s)

    def told(self) -> Curve:
        """Return what the answers so far say."""
        counted = self._answers[int(WARM_UP * len(self._answers)) :]
        seconds = counted[-1][0] - counted[0][0]
        sizes = self._batcher.sizes
        busy = self._cores.busy_s / (self.environment.now * self._machine.cores)
        latencies = sorted(latency for _, latency in counted)
        return Curve((len(counted) - 1) / seconds, latencies, sum(sizes) / len(sizes), busy)


def closed(machine: Machine, in_flight: int, seconds: float = 400.0) -> Curve:
    """Return the curve where so many clients each send the next picture with the last answer."""
    stack = Stack(machine)

    def client() -> Process:
        while True:
            yield stack.environment.process(stack.picture())

    for _ in range(in_flight):
        stack.environment.process(client())
    stack.environment.run(until=seconds)
    return stack.told()


def poisson(machine: Machine, rate: float, seconds: float = 2000.0, seed: int = 1) -> Curve:
    """Return the curve of pictures that come at random, so many a second on average, whatever is under way."""
    stack, chance = Stack(machine), random.Random(seed)  # noqa: S311 - no secret

    def arrivals() -> Process:
        while True:
            yield stack.environment.timeout(chance.expovariate(rate))
            stack.environment.process(stack.picture())

    stack.environment.process(arrivals())
    stack.environment.run(until=seconds)
    return stack.told()
