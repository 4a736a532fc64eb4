"""The faults. Each begins, lasts, and ends: afterwards everything can work again."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from tests.faults.clock import library
from tests.faults.scene import Scene
from tests.faults.schedule import Planned
from tests.faults.stores import SQLiteFiles, slow
from tests.messaging.proxy import Direction, Proxy

Fault = Callable[[Scene, Planned, random.Random], None]

KINDS: dict[str, Fault] = {}
"""By the words in which the report names them, in the order of the table there."""

WAYS: tuple[Direction, ...] = ("to broker", "to client")
NOTICED_WITHIN_S = 1.0
"""The library reads the offset of a clock once a second."""
CLOCK_JUMPS_S = (-7_200, -90, 90, 7_200)


def fault(words: str) -> Callable[[Fault], Fault]:
    def register(inflict: Fault) -> Fault:
        KINDS[words] = inflict
        return inflict

    return register


def inflict(scene: Scene, planned: Planned) -> None:
    KINDS[planned.kind](scene, planned, random.Random(planned.dice))


def kinds_for(scene: Scene) -> list[str]:
    """Those that can be had here."""
    left_out = set() if library() else {"a clock jumps"}
    if not isinstance(scene.stores, SQLiteFiles) or not scene.stores.on_a_small_disk:
        left_out.add("the disk of the database is full")
    return [words for words in KINDS if words not in left_out]


def _last(planned: Planned) -> None:
    threading.Event().wait(planned.lasts_s)


# Processes.


@fault("a process is killed (SIGKILL)")
def _killed(scene: Scene, planned: Planned, rng: random.Random) -> None:
    member = rng.choice(scene.members)
    member.kill()
    _last(planned)
    member.start()


@fault("a process is stopped (SIGTERM)")
def _terminated(scene: Scene, planned: Planned, rng: random.Random) -> None:
    member = rng.choice(scene.members)
    member.wait_until_consuming()  # before that it does not take signals
    member.terminate()
    _last(planned)
    member.start()


@fault("a process is frozen (SIGSTOP)")
def _frozen(scene: Scene, planned: Planned, rng: random.Random) -> None:
    member = rng.choice(scene.members)
    member.freeze()
    threading.Event().wait(planned.lasts_s * rng.choice((1, 1, 4)))  # beyond its heartbeat, or not
    member.thaw()


@fault("a clock jumps")
def _clock(scene: Scene, planned: Planned, rng: random.Random) -> None:
    member = rng.choice(scene.members)
    member.set_clock(rng.choice(CLOCK_JUMPS_S))
    threading.Event().wait(planned.lasts_s + 2 * NOTICED_WITHIN_S)
    member.set_clock(0)


# The broker.


@fault("the broker is killed")
def _broker_killed(scene: Scene, planned: Planned, _rng: random.Random) -> None:
    scene.broker.kill()
    _last(planned)
    scene.await_red(planned.kind, scene.members)
    scene.broker.start()


@fault("the broker is stopped and started")
def _broker_restarted(scene: Scene, _planned: Planned, _rng: random.Random) -> None:
    scene.broker.restart()


@fault("the broker is frozen")
def _broker_frozen(scene: Scene, planned: Planned, rng: random.Random) -> None:
    scene.broker.pause()
    threading.Event().wait(planned.lasts_s * rng.choice((1, 1, 4)))
    scene.await_red(planned.kind, scene.members)
    scene.broker.resume()


@fault("a memory alarm blocks publishers")
def _alarm(scene: Scene, planned: Planned, _rng: random.Random) -> None:
    scene.ask_broker("set_vm_memory_high_watermark", "0")
    _last(planned)
    scene.ask_broker("set_vm_memory_high_watermark", "0.4")


@fault("the administrator closes all connections")
def _closed(scene: Scene, _planned: Planned, _rng: random.Random) -> None:
    scene.ask_broker("close_all_connections", "--vhost", scene.vhost, "maintenance")


@fault("a queue is deleted")
def _deleted(scene: Scene, _planned: Planned, rng: random.Random) -> None:
    """While nothing is in it or with a consumer: that would be lost, by definition. Afterwards it
    is not there for a while, until a consumer makes it again, and publishers keep what they have.
    """
    with scene.drained():
        bench = scene.bench()
        bench.channel.queue_delete(rng.choice(scene.ingresses))
        bench.close()


@fault("the process of a queue dies in the broker")
def _queue_process_killed(scene: Scene, _planned: Planned, _rng: random.Random) -> None:
    """The broker starts it again. Of a classic queue it cancels the consumers."""
    queue = scene.ingresses[0]
    name = f'rabbit_misc:r(<<"{scene.vhost}">>, queue, <<"{queue}">>)'
    kill = (
        f"{{ok, Q}} = rabbit_amqqueue:lookup({name}), case amqqueue:get_pid(Q) of "
        "{Name, _Node} -> exit(whereis(Name), kill); Pid -> exit(Pid, kill) end."
    )
    scene.ask_broker("eval", kill)


# The way to the broker.


@fault("connections are cut")
def _cut(scene: Scene, _planned: Planned, rng: random.Random) -> None:
    for proxy in _some_proxies(scene, rng):
        proxy.cut()


@fault("connections are cut in the middle of a frame")
def _cut_in_frame(scene: Scene, planned: Planned, rng: random.Random) -> None:
    for proxy in _some_proxies(scene, rng):
        proxy.cut_after(rng.randrange(1, 5_000), rng.choice(WAYS))
    _last(planned)


@fault("connections are cut in their handshake")
def _cut_in_handshake(scene: Scene, planned: Planned, rng: random.Random) -> None:
    for proxy in _some_proxies(scene, rng):
        proxy.cut_next_after(rng.randrange(1, 600), rng.choice(WAYS))
        proxy.cut()
    _last(planned)


@fault("connections are stalled")
def _stalled(scene: Scene, planned: Planned, rng: random.Random) -> None:
    """Until somebody gives them up: the broker, or their own end."""
    for proxy in _some_proxies(scene, rng):
        proxy.stall(rng.choice(WAYS))
    _last(planned)


def _some_proxies(scene: Scene, rng: random.Random) -> list[Proxy]:
    return rng.sample(scene.proxies, rng.randint(1, len(scene.proxies)))


# The database.


@fault("the database is locked")
def _locked(scene: Scene, planned: Planned, _rng: random.Random) -> None:
    with scene.stores.locked():
        _last(planned)
        scene.await_red(planned.kind, scene.members)


@fault("the database is slow")
def _slow(scene: Scene, planned: Planned, _rng: random.Random) -> None:
    slow(scene.stores, planned.lasts_s)


@fault("the database is gone")
def _gone(scene: Scene, planned: Planned, _rng: random.Random) -> None:
    with scene.stores.gone():
        _last(planned)
        if not isinstance(scene.stores, SQLiteFiles):  # its open files stay
            scene.await_red(planned.kind, scene.members)


@fault("the disk of the database is full")
def _full(scene: Scene, planned: Planned, _rng: random.Random) -> None:
    assert isinstance(scene.stores, SQLiteFiles)
    with scene.stores.full():
        _last(planned)
