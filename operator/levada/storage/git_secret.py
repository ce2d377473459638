"""What opens a repository, from a Secret that is mounted as a folder: names of keys as Kubernetes and Flux have them.

`username` and `password`, or `token`, for http and https;
`ssh-privatekey` (or `identity`) with `known_hosts` for ssh; `ca.crt` beside them for a certificate of one's own.
"""

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

from levada.exceptions import StorageError
from levada.secrets import register
from levada.storage.git import user_for_token

_SSH_KEYS: Final = ("ssh-privatekey", "identity")
_PASSWORDS: Final = ("password", "token")


class Opening(NamedTuple):
    """Credentials for http, and variables of git's environment."""

    credentials: tuple[str, str] | None = None
    variables: Mapping[str, str] = {}


@contextmanager
def opening(url: str, secret: str, folder: Path) -> Iterator[Opening]:
    """What git needs for the URL; files of it are gone afterwards.

    Args:
        url: of the repository.
        secret: the Secret's name, for messages.
        folder: where it is mounted; nothing is in it, if it does not exist.

    Raises:
        StorageError: the Secret does not exist or lacks a key.
    """
    found = _texts(folder)
    if not found:
        raise StorageError(
            f"there is no Secret {secret!r} in the run's namespace, or it is empty; create it, or correct secretRef"
        )
    with TemporaryDirectory(prefix="levada-git-") as temporary:
        place = Path(temporary)
        variables = {}
        if "ca.crt" in found:
            variables["GIT_SSL_CAINFO"] = str(_private(place / "ca.crt", found["ca.crt"]))
        if _is_ssh(url):
            yield Opening(None, variables | {"GIT_SSH_COMMAND": _ssh(secret, found, place)})
        else:
            yield Opening(_login(url, secret, found), variables)


def _texts(folder: Path) -> dict[str, str]:
    try:
        return {
            file.name: file.read_text(encoding="utf-8")
            for file in folder.iterdir()
            if file.is_file() and not file.name.startswith("..")
        }
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"the Secret's files cannot be read: {error}") from None


def _is_ssh(url: str) -> bool:
    return url.startswith("ssh://") or "://" not in url


def _login(url: str, secret: str, found: Mapping[str, str]) -> tuple[str, str] | None:
    password = next((found[name].strip() for name in _PASSWORDS if found.get(name, "").strip()), "")
    if not password:
        if "ca.crt" in found:
            return None  # a repository that everybody may read, behind a certificate of one's own
        raise StorageError(
            f"Secret {secret!r} has no key password or token (its keys: {', '.join(sorted(found))}); {url.partition(':')[0]} needs one"
        )
    register(password)
    return found.get("username", "").strip() or user_for_token(url), password


def _ssh(secret: str, found: Mapping[str, str], place: Path) -> str:
    """The ssh command: with this key and these known hosts only, and never a question."""
    key = next((found[name] for name in _SSH_KEYS if found.get(name)), "")
    missing = [name for name, text in (("ssh-privatekey", key), ("known_hosts", found.get("known_hosts"))) if not text]
    if missing:
        raise StorageError(
            f"Secret {secret!r} has no key {' and '.join(missing)}; ssh needs ssh-privatekey and known_hosts, the "
            "latter from `ssh-keyscan HOST`, compared with what the host publishes"
        )
    register(key)
    # ssh refuses a key that others may read, as a mounted Secret's group may.
    identity = _private(place / "identity", key.rstrip("\n") + "\n")
    hosts = _private(place / "known_hosts", found["known_hosts"])
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(hosts),
        "GlobalKnownHostsFile": os.devnull,
    }
    words = ["ssh", "-F", os.devnull, "-i", str(identity)]
    return shlex.join([*words, *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))])


def _private(file: Path, text: str) -> Path:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    return file
