"""What can be set of a broker, how it is checked, and that no password shows."""

from __future__ import annotations

import dataclasses
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from attune_mq import BrokerSettings
from attune_mq.amqp import DEFAULT_URL, InvalidBrokerUrl, redacted, virtual_host
from attune_mq.errors import InvalidInput
from tests.broker.certificates import Authority, Certificate

URL = "amqp://user:s3cret@broker.example:5673/%2F"
TLS_URL = "amqps://user:s3cret@broker.example"


# Where they come from.


def test_without_anything_set_it_is_the_broker_of_this_machine() -> None:
    assert BrokerSettings.from_environment({}) == BrokerSettings()
    assert BrokerSettings().urls == (DEFAULT_URL,) == ("amqp://guest:guest@localhost:5672/%2F",)


def test_every_setting_has_its_variable() -> None:
    environment = {
        "ATTUNE_MQ_URL": "amqps://user@one.example, amqps://user@two.example",
        "ATTUNE_MQ_HEARTBEAT_S": "7",
        "ATTUNE_MQ_CONNECT_TIMEOUT_S": "2.5",
        "ATTUNE_MQ_PASSWORD_FILE": "/run/secrets/password",
        "ATTUNE_MQ_CA_FILE": "ca.crt",
        "ATTUNE_MQ_CERT_FILE": "client.crt",
        "ATTUNE_MQ_KEY_FILE": "client.key",
        "ATTUNE_MQ_SERVER_NAME": "broker.example",
    }

    assert BrokerSettings.from_environment(environment) == BrokerSettings(
        urls=("amqps://user@one.example", "amqps://user@two.example"),
        heartbeat_s=7,
        connect_timeout_s=2.5,
        password_file="/run/secrets/password",
        ca_file="ca.crt",
        cert_file="client.crt",
        key_file="client.key",
        server_name="broker.example",
    )
    assert BrokerSettings.from_environment({"ATTUNE_MQ_PASSWORD": "s3cret"}).password == "s3cret"


def test_an_empty_variable_counts_as_not_set() -> None:
    names = [field.name for field in dataclasses.fields(BrokerSettings) if field.name != "urls"]
    empty = {f"ATTUNE_MQ_{name.upper()}": "" for name in [*names, "url"]}

    assert BrokerSettings.from_environment(empty) == BrokerSettings()


def test_a_url_that_is_given_leaves_the_rest_to_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ATTUNE_MQ_URL", "amqp://elsewhere")
    monkeypatch.setenv("ATTUNE_MQ_CA_FILE", "ca.crt")
    monkeypatch.setenv("ATTUNE_MQ_HEARTBEAT_S", "7")

    expected = BrokerSettings(urls=(TLS_URL,), ca_file="ca.crt", heartbeat_s=7)
    assert BrokerSettings.of(TLS_URL) == BrokerSettings.of([TLS_URL]) == expected
    assert BrokerSettings.of(expected) is expected


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1e9", "nan"])
def test_a_time_that_is_none_is_refused_with_its_variable(value: str) -> None:
    with pytest.raises(InvalidInput, match=f"ATTUNE_MQ_HEARTBEAT_S: expected .*, got '{value}'"):
        BrokerSettings.from_environment({"ATTUNE_MQ_HEARTBEAT_S": value})


def test_they_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        BrokerSettings().password = "other"  # type: ignore[misc]


# URLs.


@pytest.mark.parametrize(
    ("url", "host", "port", "vhost"),
    [
        ("amqp://broker.example", "broker.example", 5672, "/"),
        ("amqps://broker.example", "broker.example", 5671, "/"),
        ("amqps://broker.example:443/", "broker.example", 443, "/"),
        ("amqp://u:p%40%2F@broker.example/%2F", "broker.example", 5672, "/"),
        ("AMQP://u:p@broker.example/a%2Fb%20c", "broker.example", 5672, "a/b c"),
        ("amqp://u:p@[::1]:5673/v?channel_max=7", "::1", 5673, "v"),
    ],
)
def test_a_url_is_read(url: str, host: str, port: int, vhost: str) -> None:
    parameters = BrokerSettings(urls=(url,)).parameters(url, name="test")

    found = (parameters.host, parameters.port, parameters.virtual_host)
    assert found == (host, port, vhost)
    assert virtual_host(url) == vhost


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://user:s3cret@host",
        "amqp://",
        "amqp://user:s3cret@host:port",
        "amqp://user:s3cret@host:0",
        "amqp://user:s3cret@host:99999",
        "amqp://user:s3cret@host/a/b",
        "amqp://user:s3cret@host?no_such_option=1",
        "amqp://user:s3cret@host?heartbeat=soon",
        "amqps://user:s3cret@host?ssl_options={'ca_certs': '/x'}",
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidBrokerUrl, match="expected") as caught:
        BrokerSettings(urls=(url,))

    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize("password", ["s3/cret", "s3?cret", "s3#cret", "s3,cret", "s3@/cret"])
def test_a_password_that_is_not_percent_encoded_is_not_shown_either(password: str) -> None:
    with pytest.raises(InvalidBrokerUrl) as caught:
        BrokerSettings.of(f"amqp://user:{password}@host:5672/%2F")

    told = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "s3" not in told
    assert "cret" not in told


def test_no_url_at_all_is_refused() -> None:
    with pytest.raises(InvalidBrokerUrl, match="got none"):
        BrokerSettings.of(" , ")


def test_options_of_the_url_do_not_beat_the_settings() -> None:
    url = "amqp://host?heartbeat=600&connection_attempts=9"

    parameters = BrokerSettings(urls=(url,), heartbeat_s=5).parameters(url, name="me")

    assert parameters.heartbeat == 5
    assert parameters.connection_attempts == 1
    assert parameters.client_properties == {"connection_name": "me", "product": "attune_mq"}


# Passwords.


@pytest.mark.parametrize(
    ("url", "others", "login"),
    [
        ("amqp://host", {}, ("guest", "guest")),
        ("amqp://host", {"password": "a"}, ("guest", "a")),
        ("amqp://user@host", {"password": "a:@/%2F"}, ("user", "a:@/%2F")),
        ("amqp://us%20er:p%2Fw@host", {}, ("us er", "p/w")),
        ("amqp://user:own@host", {"password": "a"}, ("user", "own")),
        ("amqp://user:@host", {"password": "a"}, ("user", "")),
    ],
)
def test_the_password_of_the_url_comes_before_the_setting(
    url: str, others: Any, login: tuple[str, str]
) -> None:
    settings = BrokerSettings(urls=(url,), **others)
    credentials: Any = settings.parameters(url, name="test").credentials

    assert settings.login(url) == login == (credentials.username, credentials.password)


@pytest.mark.parametrize("text", ["pass word", "pass word\n", "pass word\r\n"])
def test_a_password_file_holds_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(text.encode())
    settings = BrokerSettings(urls=("amqp://user@host",), password_file=file)

    assert settings.login("amqp://user@host") == ("user", "pass word")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file or directory"),
        (b"", "expected the password on one line, found 0 lines"),
        (b"\n", "expected the password on one line"),
        (b"s3cret\nand more\n", "expected the password on one line, found 2 lines"),
        (b"s3cret\xff", "expected text .of certificates and keys PEM., found bytes"),
    ],
)
def test_a_password_file_that_holds_none_is_refused_with_its_name_and_not_its_content(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    settings = BrokerSettings(urls=("amqp://user@host",), password_file=file)

    with pytest.raises(InvalidInput, match=said) as caught:
        settings.parameters("amqp://user@host", name="test")

    assert str(caught.value).startswith(f"password_file (ATTUNE_MQ_PASSWORD_FILE): '{file}'")
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_a_user_without_any_password_is_refused() -> None:
    with pytest.raises(InvalidBrokerUrl, match=r"ATTUNE_MQ_PASSWORD_FILE\) or password") as caught:
        BrokerSettings(urls=("amqp://user@host",))

    assert "amqp://user@host" in str(caught.value)


def test_two_ways_to_give_a_password_are_one_too_many() -> None:
    with pytest.raises(InvalidInput, match="leave one of them out") as caught:
        BrokerSettings(password="s3cret", password_file="password")

    assert "s3cret" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    settings = BrokerSettings(urls=(URL, "amqp://user@two.example"), password="als0-secret")

    for told in (repr(settings), str(settings), f"{settings!s:.500}", repr([settings])):
        assert "s3cret" not in told
        assert "als0-secret" not in told
        assert "amqp://user:…@broker.example:5673/%2F" in told


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (URL, "amqp://user:…@broker.example:5673/%2F"),
        ("amqp://user:a:b@host", "amqp://user:…@host"),
        ("amqp://user@host", "amqp://user@host"),
        ("amqp://host/v", "amqp://host/v"),
        ("amqp://host:5672/v", "amqp://host:5672/v"),
        ("amqp://[::1]:5672", "amqp://[::1]:5672"),
        ("amqp://user:s3/cr@et@host", "amqp://user:…@host"),
        ("amqp://user:s3", "amqp://user:…"),
        ("cret@host", "…@host"),
        ("localhost:5672", "localhost:5672"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert redacted(url) == shown


# TLS.


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("settings") / "authority")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Certificate:
    return authority.issue("client", "DNS:client")


def test_an_amqps_url_verifies_the_broker_and_its_name() -> None:
    options = BrokerSettings(urls=(TLS_URL,)).parameters(TLS_URL, name="test").ssl_options

    assert options is not None
    assert options.server_hostname == "broker.example"
    assert options.context.verify_mode is ssl.CERT_REQUIRED
    assert options.context.check_hostname
    assert options.context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert options.context.get_ca_certs() or ssl.get_default_verify_paths().cafile is None


def test_a_ca_file_is_trusted_alone_and_by_the_same_rules(authority: Authority) -> None:
    context = BrokerSettings(urls=(TLS_URL,), ca_file=authority.ca_file).tls_context()

    assert [dict(one)["subject"] for one in context.get_ca_certs()] == [
        ((("commonName", "Authority authority"),),)
    ]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_plain_url_has_no_tls() -> None:
    assert BrokerSettings(urls=(URL,)).parameters(URL, name="test").ssl_options is None


@pytest.mark.parametrize("name", ["ca_file", "cert_file", "server_name"])
def test_settings_of_tls_refuse_to_speak_to_another_machine_without(name: str) -> None:
    settings: dict[str, Any] = {name: "x"}

    with pytest.raises(InvalidBrokerUrl, match=rf"{name} \(ATTUNE_MQ_.* write amqps://") as caught:
        BrokerSettings(urls=(TLS_URL, URL), **settings)

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_on_this_machine_a_tunnel_or_a_private_node_may_do_without(host: str) -> None:
    url = f"amqp://{host}"

    settings = BrokerSettings(urls=(url,), ca_file="ca.crt")

    assert settings.parameters(url, name="test").ssl_options is None


def test_a_key_without_a_certificate_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"key_file .* expected cert_file"):
        BrokerSettings(urls=(TLS_URL,), key_file="client.key")


PEM = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("setting", ["ca_file", "cert_file"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "expected a file to read, got: No such file or directory"),
        (b"", "in PEM form .-----BEGIN CERTIFICATE-----., found none"),
        (b"0\x82\x03\xff", "expected text .of certificates and keys PEM., found bytes"),
        (PEM.encode(), "expected .*"),
    ],
    ids=["missing", "empty", "DER", "damaged"],
)
def test_a_certificate_that_cannot_be_used_is_refused_with_its_setting(
    tmp_path: Path, client: Certificate, setting: str, content: bytes | None, said: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    files: dict[str, Any] = {setting: file}
    if setting == "cert_file":
        files["key_file"] = client.key_file

    with pytest.raises(InvalidInput, match=said) as caught:
        BrokerSettings(urls=(TLS_URL,), **files).tls_context()

    variable = f"ATTUNE_MQ_{setting.upper()}"
    assert str(caught.value).startswith(f"{setting} ({variable}): '{file}': expected")


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="expected a file to read, got: Is a directory"):
        BrokerSettings(urls=(TLS_URL,), ca_file=tmp_path).tls_context()


def test_a_key_of_another_certificate_is_refused(authority: Authority, client: Certificate) -> None:
    other = authority.issue("other", "DNS:other")
    settings = BrokerSettings(urls=(TLS_URL,), cert_file=client.cert_file, key_file=other.key_file)

    with pytest.raises(InvalidInput, match=r"key_file .* expected the key of the certificate in"):
        settings.tls_context()


def test_a_certificate_without_any_key_is_refused(client: Certificate) -> None:
    settings = BrokerSettings(urls=(TLS_URL,), cert_file=client.cert_file)

    with pytest.raises(InvalidInput, match=r"cert_file .* expected a private key in PEM form"):
        settings.tls_context()


@pytest.mark.parametrize("form", ["pkcs8", "ec"], ids=["PKCS 8", "traditional"])
def test_a_key_with_a_passphrase_is_refused_and_nobody_is_asked_for_it(
    client: Certificate, tmp_path: Path, form: str
) -> None:
    locked = tmp_path / "locked.key"
    protect = ("-topk8", "-passout") if form == "pkcs8" else ("-aes128", "-passout")
    subprocess.run(
        ["openssl", form, "-in", client.key_file, "-out", locked, *protect, "pass:phrase"],
        capture_output=True,
        check=True,
    )
    settings = BrokerSettings(urls=(TLS_URL,), cert_file=client.cert_file, key_file=locked)

    with pytest.raises(InvalidInput, match=r"key_file .* expected a key without a passphrase"):
        settings.tls_context()
