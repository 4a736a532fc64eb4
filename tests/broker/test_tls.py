"""TLS to a real broker, with an authority made on the spot: who is trusted, and what is said to
those who are not. Each way of opening a connection has to say the same."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pika.exceptions import IncompatibleProtocolError

from attune_mq import BrokerSettings, Consumer, Publisher, setup_infrastructure
from attune_mq.amqp import Connection
from attune_mq.amqp.connection_errors import connection_failure
from attune_mq.broker import EmbeddedBroker, ManagementClient, management_client
from attune_mq.errors import (
    BrokerUnavailable,
    InvalidInput,
    LoginRefused,
    NotConfirmed,
    TlsRefused,
)
from tests.broker.certificates import Authority, Certificate
from tests.cli.running import runner
from tests.messaging.bench import WAIT_S, Calls, handlers_of, request, running, topology_of

TOPOLOGY = topology_of()
LISTENERS = ("usual", "expired", "client certificate", "client certificate by TLS 1.2", "API")


@dataclass(frozen=True)
class Site:
    """A broker with listeners of several kinds, and those who may or may not talk to it."""

    broker: EmbeddedBroker
    ports: dict[str, int]
    authority: Authority
    stranger: Authority
    client: Certificate

    @property
    def ca_file(self) -> Path:
        return self.authority.ca_file

    def url(self, listener: str = "usual", host: str = "localhost", scheme: str = "amqps") -> str:
        return f"{scheme}://guest:guest@{host}:{self.ports[listener]}/%2F"

    @contextlib.contextmanager
    def fresh_vhost(self, listener: str) -> Iterator[str]:
        """The URL of one, while the context lasts."""
        with self.broker.fresh_vhost() as plain:
            yield self.url(listener).replace("%2F", plain.rpartition("/")[2])

    def settings(self, listener: str = "usual", **others: Any) -> BrokerSettings:
        """Trusting the broker's authority, unless the others say otherwise."""
        return BrokerSettings(**{"urls": (self.url(listener),), "ca_file": self.ca_file, **others})


def tls_options(authority: Authority, server: Certificate, *further: str) -> str:
    """As an Erlang term."""
    files = [
        f'{{cacertfile,"{authority.ca_file}"}}',
        f'{{certfile,"{server.cert_file}"}}',
        f'{{keyfile,"{server.key_file}"}}',
    ]
    return f"[{','.join([*files, *further])}]"


def listen(broker: EmbeddedBroker, listeners: dict[int, str]) -> None:
    """More listeners on one node: its configuration file has one set of options for them all."""
    calls = [
        f'ok = rabbit_networking:start_ssl_listener({{"127.0.0.1",{port}}}, {options}, 1)'
        for port, options in listeners.items()
    ]
    broker.rabbitmqctl("eval", ", ".join(calls) + ".")


def free_ports(count: int) -> list[int]:
    """Of those that no EmbeddedBroker takes by itself."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [server.getsockname()[1] for server in servers]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(directory / "known"), Authority(directory / "stranger")
    server = authority.issue("server", "DNS:localhost")
    ports = dict(zip(LISTENERS, free_ports(len(LISTENERS)), strict=True))
    files = {"cacertfile": authority.ca_file, "certfile": server.cert_file}
    files["keyfile"] = server.key_file
    config: dict[str, str | int] = {"listeners.ssl.1": f"127.0.0.1:{ports['usual']}"}
    config |= {f"ssl_options.{name}": str(file) for name, file in files.items()}
    config |= {f"management.ssl.{name}": str(file) for name, file in files.items()}
    config |= {"management.ssl.ip": "127.0.0.1", "management.ssl.port": ports["API"]}
    demanding = ("{verify,verify_peer}", "{fail_if_no_peer_cert,true}")
    with EmbeddedBroker(management=True, config=config) as broker:
        expired = authority.issue("expired", "DNS:localhost", expired=True)
        options = {
            "expired": tls_options(authority, expired),
            "client certificate": tls_options(authority, server, *demanding),
            "client certificate by TLS 1.2": tls_options(
                authority, server, *demanding, "{versions,['tlsv1.2']}"
            ),
        }
        setup_infrastructure(TOPOLOGY, broker.url)  # for those who publish
        listen(broker, {ports[name]: term for name, term in options.items()})
        yield Site(broker, ports, authority, stranger, authority.issue("client", "DNS:client"))


def shown(certificate: Certificate) -> dict[str, Any]:
    """As the settings take it."""
    return {"cert_file": certificate.cert_file, "key_file": certificate.key_file}


def by_open_connection(settings: BrokerSettings) -> None:
    Connection.open(settings, name="test").close()


def by_publisher(settings: BrokerSettings) -> None:
    """Raises what kept the message from being sent."""
    with Publisher(TOPOLOGY, settings, timeout_s=WAIT_S) as publisher:
        try:
            publisher.publish(request(1))
        except NotConfirmed as error:
            if error.sent or error.__cause__ is None:
                raise
            raise error.__cause__ from None


Opening = Callable[[BrokerSettings], None]
BOTH = pytest.mark.parametrize("opening", [by_open_connection, by_publisher])


# Who is trusted.


@pytest.mark.parametrize(
    "listener", ["usual", "client certificate", "client certificate by TLS 1.2"]
)
def test_a_message_travels_over_tls_and_shows_a_client_certificate(
    site: Site, listener: str
) -> None:
    calls = Calls()
    with site.fresh_vhost(listener) as url:
        settings = site.settings(urls=(url,), **shown(site.client))
        setup_infrastructure(TOPOLOGY, settings)
        with (
            running(Consumer(TOPOLOGY, "worker", handlers_of(calls), settings)),
            Publisher(TOPOLOGY, settings) as publisher,
        ):
            publisher.publish(request(7))
            calls.wait_for(1)

    assert calls.ids == [7]


def test_a_certificate_and_its_key_may_stand_in_one_file(site: Site, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(site.client.cert_file.read_text() + site.client.key_file.read_text())

    by_open_connection(site.settings("client certificate", cert_file=both))


def test_a_broker_reached_by_another_name_is_trusted_by_its_own(site: Site) -> None:
    url = site.url(host="127.0.0.1")

    by_open_connection(site.settings(urls=(url,), server_name="localhost"))


# Who is not.


Change = Callable[[Site], BrokerSettings]
REFUSED: dict[str, tuple[Change, str]] = {
    "a wrong host name": (
        lambda site: site.settings(urls=(site.url(host="127.0.0.1"),)),
        r"certificate is not for this host name \(.*'127\.0\.0\.1'\): write a name .*"
        r"ATTUNE_MQ_SERVER_NAME",
    ),
    "a wrong server name": (
        lambda site: site.settings(server_name="broker.example"),
        r"certificate is not for this host name \(.*'broker\.example'\)",
    ),
    "an expired certificate": (
        lambda site: site.settings("expired"),
        "the broker's certificate has expired, .* have it renewed",
    ),
    "an unknown authority": (
        lambda site: site.settings(ca_file=site.stranger.ca_file),
        "authority that is not trusted here .* set ca_file .ATTUNE_MQ_CA_FILE",
    ),
    "an authority that the system does not know": (
        lambda site: site.settings(ca_file=None),
        "authority that is not trusted here .* set ca_file .ATTUNE_MQ_CA_FILE",
    ),
    "no client certificate": (
        lambda site: site.settings("client certificate"),
        "the broker wants a client certificate: set cert_file and key_file .ATTUNE_MQ_CERT_FILE",
    ),
    "no client certificate, by TLS 1.2": (
        lambda site: site.settings("client certificate by TLS 1.2"),
        "it wants a client certificate .set ATTUNE_MQ_CERT_FILE and ATTUNE_MQ_KEY_FILE",
    ),
    "a client certificate of a stranger": (
        lambda site: site.settings(
            "client certificate", **shown(site.stranger.issue("client", "DNS:client"))
        ),
        "does not know the authority of our client certificate",
    ),
    "an expired client certificate": (
        lambda site: site.settings(
            "client certificate", **shown(site.authority.issue("old", "DNS:old", expired=True))
        ),
        "our client certificate .cert_file. has expired",
    ),
    "TLS to a port without": (
        lambda site: site.settings(
            urls=(site.broker.url.replace("amqp:", "amqps:").replace("127.0.0.1", "localhost"),)
        ),
        "speaks no TLS: write amqp://",
    ),
    "no TLS to a port with it": (
        lambda site: site.settings(urls=(site.url(scheme="amqp"),)),
        "this port speaks TLS: write amqps://",
    ),
}


@BOTH
@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_connection_without_trust_is_refused_with_what_to_do(
    site: Site, change: Change, said: str, opening: Opening
) -> None:
    with pytest.raises(TlsRefused, match=said) as caught:
        opening(change(site))

    assert str(caught.value).startswith("amqp")
    assert "guest:…@" in str(caught.value)  # which URL, without its password


def test_a_broker_whose_no_came_too_late_to_be_read_is_asked_again(site: Site) -> None:
    """In TLS 1.3 it can come after pika wrote, which then sees no more than a broken connection."""
    broken = IncompatibleProtocolError("StreamLostError: EOF occurred in violation of protocol")
    settings = site.settings("client certificate")

    failure = connection_failure(broken, settings.urls[0], settings)

    assert isinstance(failure, TlsRefused)
    assert "the broker wants a client certificate" in str(failure)


def test_a_broker_that_has_nothing_against_us_may_have_died(site: Site) -> None:
    broken = IncompatibleProtocolError("StreamLostError: EOF occurred in violation of protocol")
    settings = site.settings("client certificate", **shown(site.client), connect_timeout_s=0.5)

    failure = connection_failure(broken, settings.urls[0], settings)

    assert isinstance(failure, BrokerUnavailable)
    assert "connection closed before the AMQP handshake" in str(failure)


@pytest.mark.parametrize("scheme", ["amqp", "amqps"])
def test_a_host_that_hangs_up_is_away_and_not_without_trust(scheme: str) -> None:
    with hanging_up() as port, pytest.raises(BrokerUnavailable):
        by_open_connection(BrokerSettings(urls=(f"{scheme}://localhost:{port}",)))


@contextlib.contextmanager
def hanging_up() -> Iterator[int]:
    """The port of a host that takes connections and closes them, as a proxy without a broker."""

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                listening.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


@BOTH
@pytest.mark.parametrize("setting", ["ca_file", "cert_file", "password_file"])
def test_a_file_that_is_not_there_is_told_at_once(
    site: Site, tmp_path: Path, setting: str, opening: Opening
) -> None:
    url = site.url().replace("guest:guest", "guest")
    files: dict[str, Any] = {"password_file": tmp_path / "password", setting: tmp_path / "missing"}
    (tmp_path / "password").write_text("guest")

    with pytest.raises(InvalidInput, match=rf"^{setting} \(ATTUNE_MQ_.*missing.*No such file"):
        opening(site.settings(urls=(url,), **files))


# Several hosts, and what changes while a service runs.


def test_of_several_hosts_one_that_is_trusted_is_enough(site: Site) -> None:
    urls = (site.url("expired"), site.url(host="127.0.0.1"), site.url())

    for opening in (by_open_connection, by_publisher):
        for _ in range(4):  # whichever is tried first
            opening(site.settings(urls=urls))


def test_where_no_host_is_trusted_that_is_said_rather_than_that_another_is_away(
    site: Site,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    urls = (f"amqps://guest:guest@localhost:{port}", site.url("expired"))

    for _ in range(4):
        with pytest.raises(TlsRefused, match="has expired"):
            by_open_connection(site.settings(urls=urls))


def test_files_that_are_replaced_hold_from_the_next_connection_on(
    site: Site, tmp_path: Path
) -> None:
    ca_file, password_file = tmp_path / "ca.crt", tmp_path / "password"
    ca_file.write_text(site.stranger.ca_file.read_text())
    password_file.write_text("old\n")
    url = site.url().replace("guest:guest", "guest")
    settings = site.settings(urls=(url,), ca_file=ca_file, password_file=password_file)

    with pytest.raises(TlsRefused):
        by_open_connection(settings)
    ca_file.write_text(site.ca_file.read_text())
    with pytest.raises(LoginRefused, match=r"check both \(password_file, ATTUNE_MQ_PASSWORD_FILE"):
        by_open_connection(settings)
    password_file.write_text("guest\n")
    by_open_connection(settings)


# The HTTP API.


def api(site: Site, host: str = "localhost") -> str:
    return f"https://{host}:{site.ports['API']}"


def test_the_http_api_is_trusted_by_the_same_authority(site: Site) -> None:
    client = management_client(api(site), site.settings())

    assert client.version() == site.broker.version


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda site: management_client(api(site), site.settings(ca_file=None)), "not trusted"),
        (lambda site: ManagementClient(api(site)), "set ca_file .ATTUNE_MQ_CA_FILE"),
        (
            lambda site: management_client(api(site, "127.0.0.1"), site.settings()),
            "not for this host name .* write a name that it is for into the URL$",
        ),
        (
            lambda site: management_client(
                (site.broker.management_url or "").replace("http:", "https:"), site.settings()
            ),
            "speaks no TLS: write http://",
        ),
    ],
    ids=["another authority", "the system's authorities", "a wrong name", "a port without TLS"],
)
def test_the_http_api_without_trust_is_refused_with_what_to_do(
    site: Site, change: Callable[[Site], ManagementClient], said: str
) -> None:
    with pytest.raises(TlsRefused, match=said):
        change(site).version()


# The environment, and what must not be told.


def test_the_command_line_takes_it_all_from_the_environment(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "password").write_text("guest\n")
    run = runner(capsys, "--url", site.url("client certificate").replace("guest:guest", "guest"))
    monkeypatch.setenv("ATTUNE_MQ_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("ATTUNE_MQ_CERT_FILE", str(site.client.cert_file))
    monkeypatch.setenv("ATTUNE_MQ_KEY_FILE", str(site.client.key_file))
    monkeypatch.setenv("ATTUNE_MQ_MANAGEMENT_URL", api(site))

    untrusted = run("plan")
    monkeypatch.setenv("ATTUNE_MQ_CA_FILE", str(site.ca_file))
    trusted = run("plan", "--service", "executor")
    monkeypatch.setenv("ATTUNE_MQ_CA_FILE", str(tmp_path))
    wrong = run("plan")

    assert (untrusted.code, trusted.code, wrong.code) == (4, 1, 2), trusted
    assert "set ca_file (ATTUNE_MQ_CA_FILE)" in untrusted.err
    assert "expected a file to read, got: Is a directory" in wrong.err


@BOTH
def test_neither_password_nor_key_is_ever_logged_or_said(
    site: Site, tmp_path: Path, opening: Opening, caplog: pytest.LogCaptureFixture
) -> None:
    for logger in ("attune_mq", "pika"):
        caplog.set_level(logging.DEBUG, logger)
    (tmp_path / "password").write_text("pl4nted-secret")
    url = site.url("client certificate").replace("guest:guest", "guest")
    settings = site.settings(urls=(url,), password_file=tmp_path / "password", **shown(site.client))

    with pytest.raises(LoginRefused) as caught:
        opening(settings)

    assert "pika.connection" in caplog.text  # it does log
    told = f"{caught.value!r} {caught.value.__cause__!r} {settings!r} {caplog.text}"
    assert "pl4nted-secret" not in told
    assert site.client.key_file.read_text().splitlines()[1] not in told
