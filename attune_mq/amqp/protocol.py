"""A connection as a value: bytes and time in, bytes and events out; no lock, thread, socket or
clock.

Channel 0 is the :class:`~attune_mq.amqp.pika_link.Link`'s; each other channel is a
:class:`~attune_mq.amqp.channel_state.ChannelState`, which keeps what came for whoever opened it.
"""

from __future__ import annotations

import struct

from pika import exceptions as pika_errors

from attune_mq.amqp.channel_state import ChannelState, Phase
from attune_mq.amqp.frames import FRAME, FRAME_END, OVERHEAD_BYTES
from attune_mq.amqp.pika_link import Link

_PROTOCOL_HEADER = b"AMQP"


class NoFreeChannel(Exception):
    """The broker allows no further one (``channel_max``)."""


class ConnectionProtocol:
    """What is to be sent after each call is returned by :meth:`data_to_send`, in order."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.channels: dict[int, ChannelState] = {}
        self._rest = b""  # the beginning of a frame
        self._out: list[bytes] = []
        self._last_number = 0

    def receive(self, data: bytes) -> None:
        """Raises an error of pika's where the peer breaks the protocol."""
        self.link.bytes_received += len(data)
        if self._rest:
            data = self._rest + data
        elif data.startswith(_PROTOCOL_HEADER):  # it speaks another version
            self.link.receive(data)
            return
        try:
            self._rest = data[self._receive_frames(data) :]
        except (struct.error, IndexError) as error:
            raise pika_errors.InvalidFrameError(f"a frame that cannot be read: {error}") from error

    def data_to_send(self) -> bytes:
        out = self.link.data_to_send()
        if self._out:
            out += b"".join(self._out)
            self._out.clear()
        return out

    def open_channel(self) -> ChannelState:
        """Raises :class:`NoFreeChannel`."""
        channel = ChannelState(self._free_number())
        self.channels[channel.number] = channel
        self._out.append(channel.open())
        return channel

    def close_channel(self, channel: ChannelState) -> None:
        if channel.phase in (Phase.OPEN, Phase.OPENING) and self.link.is_open:
            self._out.append(channel.close())

    def lost(self, error: Exception) -> None:
        """The stream is gone."""
        self.link.lost(error)
        self.end()

    def end(self) -> None:
        """The link is over: so are its channels."""
        for channel in self.channels.values():
            channel.lost()

    def _receive_frames(self, data: bytes) -> int:
        """Reads all whole frames, and returns where the rest begins."""
        at, size, channels = 0, len(data), self.channels
        while size - at >= OVERHEAD_BYTES and self.link.failure is None:
            kind, number, length = FRAME.unpack_from(data, at)
            end = at + length + OVERHEAD_BYTES
            if end > size:
                break
            if data[end - 1] != FRAME_END:
                raise pika_errors.InvalidFrameError("Invalid FRAME_END marker")
            if number == 0:
                self.link.receive(data[at:end])
            elif (channel := channels.get(number)) is not None:
                obliged = channel.receive(data, at, kind, end)
                if obliged:
                    self._out.append(obliged)
                if channel.phase is Phase.CLOSED:
                    del channels[number]
            at = end
        return at

    def _free_number(self) -> int:
        if len(self.channels) >= self.link.channel_max:
            raise NoFreeChannel
        number = self._last_number
        while True:
            number = number % self.link.channel_max + 1
            if number not in self.channels:
                self._last_number = number
                return number
