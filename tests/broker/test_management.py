"""The HTTP API as RabbitMQ answers it, and whatever else may answer in its place."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlsplit

import pika
import pytest

from attune_mq.amqp.settings import BrokerSettings
from attune_mq.broker.embedded import EmbeddedBroker
from attune_mq.broker.management import (
    InvalidManagementUrl,
    Listing,
    ManagementClient,
    management_client,
)
from attune_mq.errors import (
    AttuneError,
    BrokerUnavailable,
    LoginRefused,
    PermissionRefused,
    VirtualHostRefused,
)
from tests.administration import PASSWORD, Administration, virtual_host_of


@pytest.fixture
def client(broker: EmbeddedBroker) -> ManagementClient:
    assert broker.management_url is not None
    return ManagementClient(broker.management_url)


def eventually(ask: Callable[[], Listing]) -> Listing:
    """The listing as soon as there is something in it: the broker takes a moment to count."""
    deadline = time.monotonic() + 20
    while not (found := ask()):
        assert time.monotonic() < deadline, "still nothing is listed"
        time.sleep(0.05)
    return found


def bare(broker: EmbeddedBroker) -> str:
    """The URL without a user in it."""
    parts = urlsplit(broker.management_url or "")
    return f"http://{parts.hostname}:{parts.port}"


def test_it_tells_the_version(broker: EmbeddedBroker, client: ManagementClient) -> None:
    assert client.version() == broker.version


def test_it_lists_what_was_declared(client: ManagementClient, broker_url: str) -> None:
    vhost = virtual_host_of(broker_url)
    connection = pika.BlockingConnection(pika.URLParameters(broker_url))
    channel = connection.channel()
    channel.exchange_declare("x", "topic", durable=True)
    channel.queue_declare("q", durable=True, arguments={"x-message-ttl": 5000, "foo": [1, "a"]})
    channel.queue_declare("mine", exclusive=True)
    channel.queue_bind("q", "x", "a.#", {"k": True})
    channel.basic_consume("q", print, consumer_tag="the.tag")

    queues = {queue["name"]: queue for queue in client.queues(vhost)}
    bindings = client.bindings(vhost)
    consumers = eventually(lambda: client.consumers(vhost))

    assert {"x", "amq.topic", ""} <= {exchange["name"] for exchange in client.exchanges(vhost)}
    assert queues["q"]["arguments"].items() >= {"x-message-ttl": 5000, "foo": [1, "a"]}.items()
    assert queues["mine"]["exclusive"] is True
    assert ("x", "q", "a.#", {"k": True}) in [
        (one["source"], one["destination"], one["routing_key"], one["arguments"])
        for one in bindings
    ]
    assert [(one["consumer_tag"], one["queue"]["name"]) for one in consumers] == [("the.tag", "q")]
    assert [one["name"] for one in client.definitions(vhost)["exchanges"]] == ["x"]
    connection.close()


def test_queues_whose_names_need_encoding_are_listed(
    client: ManagementClient, broker: EmbeddedBroker
) -> None:
    vhost = "a/b c%2F?ü"
    administration = Administration(broker)
    administration.put("vhosts", vhost)
    try:
        assert client.queues(vhost) == []
        assert client.vhost(vhost)["name"] == vhost
    finally:
        administration.delete("vhosts", vhost)


def test_a_wrong_password_is_refused_and_shown_nowhere(broker: EmbeddedBroker) -> None:
    url = bare(broker).replace("://", "://guest:wr0ng@")
    client = ManagementClient(url)

    with pytest.raises(LoginRefused, match="refuses the user 'guest'") as caught:
        client.overview()

    assert "wr0ng" not in f"{caught.value}{client}{client!r}"


def test_a_user_without_the_tag_is_told_which(broker: EmbeddedBroker) -> None:
    with Administration(broker).user() as user:
        client = ManagementClient(bare(broker), user=user, password=PASSWORD)
        with pytest.raises(PermissionRefused, match="lacks the tag 'management'"):
            client.overview()


def test_a_user_without_access_to_the_virtual_host_is_told_so(
    broker: EmbeddedBroker, broker_url: str
) -> None:
    with Administration(broker).user("management") as user:
        client = ManagementClient(bare(broker), user=user, password=PASSWORD)
        with pytest.raises(VirtualHostRefused, match=r"no virtual host 'fresh.*may not enter it"):
            client.queues(virtual_host_of(broker_url))


def test_the_tag_management_is_enough_for_a_plan(broker: EmbeddedBroker, broker_url: str) -> None:
    vhost, administration = virtual_host_of(broker_url), Administration(broker)
    with administration.user("management") as user:
        administration.allow(vhost, user, {"configure": "", "write": "", "read": ""})
        client = ManagementClient(bare(broker), user=user, password=PASSWORD)
        assert client.vhost(vhost)["name"] == vhost
        assert client.version() == broker.version
        assert client.queues(vhost) == []
        assert client.bindings(vhost) == []
        assert len(client.exchanges(vhost)) > 5
        assert client.consumers(vhost) == []
        with pytest.raises(PermissionRefused, match="lacks the tag 'administrator'"):
            client.definitions(vhost)


def test_a_virtual_host_that_does_not_exist_is_named(client: ManagementClient) -> None:
    for ask in (client.queues, client.vhost):
        with pytest.raises(VirtualHostRefused, match="no virtual host 'no/such'"):
            ask("no/such")


def test_the_user_of_the_amqp_url_logs_in_where_the_url_names_none(broker: EmbeddedBroker) -> None:
    with Administration(broker).user("management") as user:
        amqp = f"amqp://{user}:{quote(PASSWORD, safe='')}@localhost"
        client = management_client(bare(broker), BrokerSettings.of(amqp))
        assert client.version() == broker.version


def test_the_path_of_the_api_may_be_part_of_the_url(broker: EmbeddedBroker) -> None:
    assert ManagementClient(f"{broker.management_url}/api/").version() == broker.version


def test_another_path_is_no_management_api(broker: EmbeddedBroker) -> None:
    with pytest.raises(InvalidManagementUrl, match="got 406"):
        ManagementClient(f"{broker.management_url}/elsewhere").version()


def test_the_port_of_amqp_hangs_up(broker: EmbeddedBroker) -> None:
    with pytest.raises(AttuneError, match="is this its"):
        ManagementClient(f"http://127.0.0.1:{broker.port}").version()


@pytest.mark.parametrize(
    "url",
    ["", "localhost:15672", "amqp://u:s3cret@h", "http://", "http://u:s3cret@h:port", "http://h?a"],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidManagementUrl, match="expected a URL of RabbitMQ's HTTP API") as at:
        ManagementClient(url)
    assert "s3cret" not in str(at.value)


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(BrokerUnavailable, match="connection refused"):
        ManagementClient(f"http://127.0.0.1:{port}").version()


def test_the_host_is_not_known() -> None:
    with pytest.raises(BrokerUnavailable, match="host name is not known"):
        ManagementClient("http://no-such-host.invalid:15672").version()


@contextlib.contextmanager
def server_that_says(*answers: bytes) -> Iterator[str]:
    """The URL of a server that sends these pieces to whoever asks, then waits to be hung up on if
    the last of them is empty, and otherwise closes the connection."""
    finished = threading.Event()

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                asking, _ = listening.accept()
                with asking:
                    asking.recv(65536)
                    for answer in answers:
                        asking.sendall(answer)
                    if answers and not answers[-1]:
                        finished.wait()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"http://guest:s3cret@127.0.0.1:{listening.getsockname()[1]}"
        finished.set()
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def http_answer(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


HTML = b"<!DOCTYPE html><html><body>Welcome to our portal</body></html>"


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (http_answer(HTML, kind="text/html"), InvalidManagementUrl, "got HTML"),
        (http_answer(b"hello"), InvalidManagementUrl, "got no JSON"),
        (http_answer(b""), InvalidManagementUrl, "got an empty answer"),
        (http_answer(b"\xff\xfe\x00"), InvalidManagementUrl, "got no JSON"),
        (http_answer(b"[" * 100_000), InvalidManagementUrl, "got no JSON"),
        (http_answer(b"[]"), InvalidManagementUrl, "got JSON of another shape"),
        (http_answer(b'{"a": 1}'), InvalidManagementUrl, "got JSON without rabbitmq_version"),
        (http_answer(HTML, "401 No"), LoginRefused, "refuses the user 'guest'"),
        (http_answer(HTML, "404 Not Found"), InvalidManagementUrl, "got 404 HTML"),
        (http_answer(HTML, "302 Found"), InvalidManagementUrl, "got 302"),
        (http_answer(b"{}", "500 Oh"), BrokerUnavailable, "answers 500"),
        (http_answer(b"", "503 Busy"), BrokerUnavailable, "answers 503"),
        (http_answer(b'{"a": 1}')[:-3], BrokerUnavailable, "broke off"),
        (b"", BrokerUnavailable, "it took too long"),
        (b"220 mail.example ESMTP\r\n", InvalidManagementUrl, "got no HTTP"),
    ],
)
def test_whatever_else_answers_is_an_error_that_says_what_came(
    answer: bytes, error: type[AttuneError], text: str
) -> None:
    with server_that_says(answer) as url:
        with pytest.raises(error, match=text) as caught:
            ManagementClient(url, timeout_s=0.5).version()
        assert "s3cret" not in str(caught.value)


def test_a_server_that_hangs_up_without_a_word() -> None:
    with server_that_says() as url, pytest.raises(BrokerUnavailable, match="closed the connection"):
        ManagementClient(url).version()


def test_ten_thousand_queues_in_one_answer_are_listed() -> None:
    queues = [{"name": f"queue.{n}", "arguments": {"x-message-ttl": n}} for n in range(10_000)]
    body = json.dumps(queues).encode()
    middle = len(body) // 2
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [
        f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (body[:middle], body[middle:])
    ]

    with server_that_says(chunked, *pieces, b"0\r\n\r\n") as url:
        assert ManagementClient(url).queues("/") == queues


def test_a_listing_that_is_none_is_not_taken_for_one() -> None:
    answer = http_answer(b'{"queues": []}')
    with (
        server_that_says(answer) as url,
        pytest.raises(InvalidManagementUrl, match="another shape"),
    ):
        ManagementClient(url).queues("/")


def test_a_redirection_is_not_followed() -> None:
    version = http_answer(b'{"rabbitmq_version": "4.0.5"}')
    with server_that_says(version) as elsewhere:
        head = f"HTTP/1.1 301 Moved\r\nLocation: {elsewhere}/\r\nContent-Length: 0\r\n\r\n"
        with (
            server_that_says(head.encode()) as url,
            pytest.raises(InvalidManagementUrl, match="got 301"),
        ):
            ManagementClient(url).version()
