"""Reading the files that the broker's settings name: secrets, keys, certificates.

They are read for each connection, so a file that is replaced holds from the next connection on.
What is wrong is said with the file's name, never with what it holds.
"""

from __future__ import annotations

import os

from attune_mq.errors import InvalidInput

StrPath = str | os.PathLike[str]


def variable_of(setting: str) -> str:
    """The environment variable of a setting of the broker."""
    return f"ATTUNE_MQ_{setting.upper()}"


def wrong_file(setting: str, path: StrPath, problem: str) -> InvalidInput:
    """``problem`` completes "expected …, " and so says what was expected and what was found."""
    return InvalidInput(f"{setting} ({variable_of(setting)}): {os.fspath(path)!r}: {problem}")


def read_setting_file(setting: str, path: StrPath) -> str:
    """The text of the file. Raises :class:`InvalidInput` where it cannot be read, or is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise wrong_file(setting, path, f"expected a file to read, got: {error.strerror}") from None
    except UnicodeDecodeError:
        problem = "expected text (of certificates and keys PEM), found bytes"
        raise wrong_file(setting, path, problem) from None


def read_password(path: StrPath) -> str:
    """The file's one line. Raises :class:`InvalidInput` where it is empty or has more."""
    lines = read_setting_file("password_file", path).splitlines()
    if len(lines) != 1 or not lines[0]:
        raise wrong_file(
            "password_file", path, f"expected the password on one line, found {len(lines)} lines"
        )
    return lines[0]
