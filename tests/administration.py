"""What only an administrator does, by the HTTP API, which is much quicker than ``rabbitmqctl``."""

from __future__ import annotations

import base64
import json
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from attune_mq.broker import EmbeddedBroker

PASSWORD = "s3cret/of:the@user"


class Administration:
    def __init__(self, broker: EmbeddedBroker) -> None:
        parts = urlsplit(broker.management_url or "")
        self._broker = broker
        self._base = f"http://{parts.hostname}:{parts.port}/api"
        token = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def put(self, *path: str, **body: Any) -> None:
        self._call("PUT", path, body)

    def delete(self, *path: str) -> None:
        self._call("DELETE", path, None)

    def allow(self, vhost: str, user: str, permissions: Mapping[str, str]) -> None:
        """``permissions``: a pattern each for configure, write and read."""
        self.put("permissions", vhost, user, **permissions)

    @contextmanager
    def user(self, tags: str = "") -> Iterator[str]:
        """A new user of that password above, without any permission, while the context lasts."""
        name = f"user-{uuid.uuid4().hex[:12]}"
        self.put("users", name, password=PASSWORD, tags=tags)
        try:
            yield name
        finally:
            self.delete("users", name)

    @contextmanager
    def vhost_with_default_queue_type(self, queue_type: str) -> Iterator[str]:
        """The URL of a new virtual host."""
        name = f"vhost-{uuid.uuid4().hex[:12]}"
        # RabbitMQ before 4.0 wants the key without underscores
        self.put("vhosts", name, default_queue_type=queue_type, defaultqueuetype=queue_type)
        try:
            yield self._broker.url_of(name)
        finally:
            self.delete("vhosts", name)

    def _call(self, method: str, path: tuple[str, ...], body: Any) -> None:
        address = "/".join((self._base, *(quote(step, safe="") for step in path)))
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data, self._headers, method=method)
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()


def url_for(user: str, broker_url: str) -> str:
    """The same broker and virtual host, for another user."""
    return broker_url.replace("guest:guest@", f"{user}:{quote(PASSWORD, safe='')}@")


def virtual_host_of(broker_url: str) -> str:
    return unquote(urlsplit(broker_url).path[1:])
