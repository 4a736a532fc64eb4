"""A broker that says what a test has it say, also what RabbitMQ would say once in a year.

It opens connections and channels as asked, and leaves the answer to each message to its script.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from pika import frame, spec

Script = Callable[["Conversation", int, int], None]
"""Is called with the channel and the number of each message on it, counted from 1."""
_PROTOCOL_HEADER_BYTES = 8
_FEATURES = {"publisher_confirms": True, "basic.nack": True, "connection.blocked": True}


def ack(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    return frame.Method(channel, spec.Basic.Ack(tag, multiple)).marshal()


def nack(channel: int, tag: int) -> bytes:
    return frame.Method(channel, spec.Basic.Nack(tag)).marshal()


def returned(channel: int, message_id: str, routing_key: str) -> bytes:
    """Of an empty message to the default exchange."""
    method = spec.Basic.Return(312, "NO_ROUTE", "", routing_key)
    properties = spec.BasicProperties(message_id=message_id)
    return frame.Method(channel, method).marshal() + frame.Header(channel, 0, properties).marshal()


class ScriptedBroker:
    """``before_close_ok``: what it says of a channel before it agrees to its closing."""

    def __init__(
        self,
        script: Script,
        *,
        channel_max: int = 2047,
        frame_max: int = 131_072,
        before_close_ok: Callable[[int], bytes] = lambda _: b"",
    ) -> None:
        self.script = script
        self.tune = spec.Connection.Tune(channel_max, frame_max, 60)
        self.before_close_ok = before_close_ok
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/%2F"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def on_qos(self) -> None:
        """Before it answers."""

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                conversation = Conversation(self, client)
                thread = threading.Thread(target=conversation.run, daemon=True)
                self._threads.append(thread)
                thread.start()


class Conversation:
    """With one client, on one connection."""

    def __init__(self, broker: ScriptedBroker, client: socket.socket) -> None:
        self._broker = broker
        self._client = client
        self._messages: dict[int, int] = {}

    def say(self, *frames: bytes) -> None:
        """All at once, as one packet."""
        self._client.sendall(b"".join(frames))

    def run(self) -> None:
        with suppress(OSError), self._client:
            buffer = b""
            while len(buffer) < _PROTOCOL_HEADER_BYTES:
                buffer += self._client.recv(_PROTOCOL_HEADER_BYTES)
            buffer = buffer[_PROTOCOL_HEADER_BYTES:]
            self._answer(0, spec.Connection.Start(0, 9, {"capabilities": _FEATURES}, "PLAIN", ""))
            while data := self._client.recv(65_536):
                buffer = self._read(buffer + data)

    def _read(self, buffer: bytes) -> bytes:
        while True:
            consumed, one = frame.decode_frame(buffer)
            if one is None:
                return buffer
            buffer = buffer[consumed:]
            match one:
                case frame.Method(channel_number=channel, method=method):
                    self._on_method(channel, method)
                case frame.Header(channel_number=channel, body_size=0):
                    self._messages[channel] = self._messages.get(channel, 0) + 1
                    self._broker.script(self, channel, self._messages[channel])

    def _answer(self, channel: int, method: spec.amqp_object.Method) -> None:
        self.say(frame.Method(channel, method).marshal())

    def _on_method(self, channel: int, method: spec.amqp_object.Method) -> None:
        match method:
            case spec.Connection.StartOk():
                self._answer(0, self._broker.tune)
            case spec.Connection.Open():
                self._answer(0, spec.Connection.OpenOk())
            case spec.Connection.Close():
                self._answer(0, spec.Connection.CloseOk())
            case spec.Channel.Open():
                self._messages[channel] = 0
                self._answer(channel, spec.Channel.OpenOk())
            case spec.Channel.Close():
                if self._messages.get(channel):
                    self.say(self._broker.before_close_ok(channel))
                self._answer(channel, spec.Channel.CloseOk())
            case spec.Confirm.Select():
                self._answer(channel, spec.Confirm.SelectOk())
            case spec.Basic.Qos():
                self._broker.on_qos()
                self._answer(channel, spec.Basic.QosOk())
