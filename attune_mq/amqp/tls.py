"""TLS to the broker: whom we trust, what we show, and what it means when that fails.

The broker's certificate is always verified, and so is its name. There is no switch for that: who
has an authority of their own names it with ``ca_file``, who comes by another name ``server_name``.

Sources: https://www.rabbitmq.com/docs/ssl, https://docs.python.org/3/library/ssl.html, and for the
codes and names of errors OpenSSL's ``x509_vfy.h`` and ``sslerr.h``.
"""

from __future__ import annotations

import re
import socket
import ssl

from attune_mq.amqp.setting_files import StrPath, read_setting_file, wrong_file

HEADER = b"AMQP\x00\x00\x09\x01"
"""With which a client of AMQP 0-9-1 begins."""
_TLS_ALERT = b"\x15"
"""The first byte of a TLS alert. No frame of AMQP begins with it."""
_LISTENING_S = 2.0


def client_context(
    ca_file: StrPath | None = None,
    cert_file: StrPath | None = None,
    key_file: StrPath | None = None,
) -> ssl.SSLContext:
    """Verification on, TLS 1.2 at least; the authorities of ``ca_file``, else those of the system.

    ``cert_file`` begins with the client's own certificate, those of authorities between may
    follow; its key is in ``key_file``, else in the same file. All are PEM.
    Raises :class:`~attune_mq.errors.InvalidInput` for a file that is not what it should be.
    """
    context = _trusting(ca_file)
    if cert_file is not None:
        _add_certificate(context, cert_file, key_file)
    return context


def _trusting(ca_file: StrPath | None) -> ssl.SSLContext:
    if ca_file is None:
        return ssl.create_default_context()
    _expect("ca_file", ca_file, "CERTIFICATE", "certificates of authorities")
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise _damaged("ca_file", ca_file, error) from None


def _add_certificate(context: ssl.SSLContext, cert_file: StrPath, key_file: StrPath | None) -> None:
    _expect("cert_file", cert_file, "CERTIFICATE", "a certificate")
    setting, file = ("cert_file", cert_file) if key_file is None else ("key_file", key_file)
    if "ENCRYPTED" in _expect(setting, file, "PRIVATE KEY", "a private key"):
        raise wrong_file(setting, file, "expected a key without a passphrase, found an encrypted")
    try:
        context.load_cert_chain(cert_file, key_file, password="")  # without, OpenSSL asks a person
    except OSError as error:
        if "KEY_VALUES_MISMATCH" in str(error) or "KEY_TYPE_MISMATCH" in str(error):
            problem = f"expected the key of the certificate in {str(cert_file)!r}, found another"
            raise wrong_file(setting, file, problem) from None
        raise _damaged("cert_file", cert_file, error) from None


def _expect(setting: str, path: StrPath, label: str, what: str) -> str:
    """The file's text, in which something with that label stands in PEM form."""
    text = read_setting_file(setting, path)
    if not re.search(rf"^-----BEGIN [A-Z0-9 ]*{label}-----", text, re.MULTILINE):
        form = f"-----BEGIN {label}-----"
        raise wrong_file(setting, path, f"expected {what} in PEM form ({form}), found none")
    return text


def _damaged(setting: str, path: StrPath, error: OSError) -> Exception:
    return wrong_file(setting, path, f"expected PEM that OpenSSL reads, got: {error}")


def refusal(error: BaseException, *, plain: str = "amqp") -> str | None:
    """Why there is no trusted TLS connection and what to do, if that is what ``error`` says.

    ``plain`` is the URL's scheme without TLS. pika keeps of some errors of TLS only their text.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(error, plain)
    named = re.search(r"\[SSL: ([^\]]+)\]", str(error))
    for pattern, why in REASONS.items() if named else ():
        if named and re.search(pattern, named[1]):
            return why.format(plain=plain)
    return None


def _distrust(error: ssl.SSLCertVerificationError, plain: str) -> str:
    said = error.verify_message.rstrip(".")
    or_setting = _OR_SERVER_NAME if plain == "amqp" else ""
    for codes, why in VERDICTS.items():
        if error.verify_code in codes:
            return why.format(said=said, or_setting=or_setting)
    return f"the broker's certificate is not accepted: {said}"


_OR_SERVER_NAME = ", or set server_name (ATTUNE_MQ_SERVER_NAME) to one"
VERDICTS = {
    (62, 64): "the broker's certificate is not for this host name ({said}): write a name that it "
    "is for into the URL{or_setting}",
    (10,): "the broker's certificate has expired, or that of its authority: have it renewed (or "
    "is the clock of this machine wrong?)",
    (9,): "the broker's certificate is not valid yet: is the clock of this machine right?",
    (18, 19, 20, 21): "the broker's certificate comes from an authority that is not trusted here "
    "({said}): set ca_file (ATTUNE_MQ_CA_FILE) to the certificate of that authority",
}
"""What is said of the broker's certificate, by OpenSSL's codes."""
REASONS = {
    r"ALERT_CERTIFICATE_REQUIRED": "the broker wants a client certificate: set cert_file and "
    "key_file (ATTUNE_MQ_CERT_FILE, ATTUNE_MQ_KEY_FILE)",
    r"ALERT_HANDSHAKE_FAILURE": "the broker breaks the TLS handshake off: it wants a client "
    "certificate (set ATTUNE_MQ_CERT_FILE and ATTUNE_MQ_KEY_FILE), or shares no cipher with us",
    r"ALERT_UNKNOWN_CA": "the broker does not know the authority of our client certificate "
    "(cert_file): have one issued by an authority in its ssl_options.cacertfile",
    r"ALERT_CERTIFICATE_EXPIRED": "our client certificate (cert_file) has expired: have it renewed",
    r"ALERT_(BAD_CERTIFICATE|CERTIFICATE_|UNSUPPORTED_CERT|ACCESS_DENIED)": "the broker refuses "
    "our client certificate (cert_file); its log says why",
    r"ALERT_PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL": "the broker speaks no version of TLS that is "
    "safe: let it speak 1.2 or later (ssl_options.versions)",
    r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST": "what listens there speaks no "
    "TLS: write {plain}://, or the number of the port that does",
}
"""What is said, by OpenSSL's name of the error."""


def ask_again(
    host: str, port: int, context: ssl.SSLContext | None, *, server_name: str, timeout_s: float
) -> str | None:
    """What a broker means by hanging up before it spoke AMQP: a second connection that listens.

    In TLS 1.3 a client's certificate is judged after the client takes the handshake for done.
    pika writes at once, and under load finds the connection broken before it reads why. Without
    TLS here, but there, pika takes the alert for the start of a frame. ``None``: for no reason of
    TLS, as when the broker just died. ``timeout_s``: for connecting.
    """
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.settimeout(min(timeout_s, _LISTENING_S))
            return _listen(connection, context, server_name)
    except OSError as error:
        return refusal(error)


def _listen(
    connection: socket.socket, context: ssl.SSLContext | None, server_name: str
) -> str | None:
    if context is not None:
        with context.wrap_socket(connection, server_hostname=server_name) as secured:
            secured.recv(1)
        return None
    connection.sendall(HEADER)
    if connection.recv(1) != _TLS_ALERT:
        return None
    return "this port speaks TLS: write amqps://, or the number of the port without (5672)"
