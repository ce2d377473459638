"""The images of the tests, built by buildah from images/*/Dockerfile on a base made by debootstrap: no registry is needed.

Each ends as an archive in the cache, named after a digest of all that it is made of; what has not changed is not built again.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from e2e.harness.tools import CACHE, HERE, Programs, Progress, run
from support import go_tools

ROOT = HERE.parents[2]
VERSION = "0.1.0"
SUITE = "bookworm"
ROOTFS_PACKAGES = ("python3", "python3-pip", "python3-venv", "python-is-python3", "ca-certificates")
# Not part of an image of Python either: caches, lists, and documentation.
ROOTFS_DROPPED = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale", "var/log")
ROOTFS = (SUITE, ROOTFS_PACKAGES, ROOTFS_DROPPED)
REGISTRY = "docker.io/library"
CODE = ("pyproject.toml", "constraints.txt", "images/build-constraints.txt", "images/slim.py", "operator")
OPERATOR_CODE = (*CODE, "images/pages.py")
FLOW_CODE = (*CODE, "images/overlay.py")


@dataclass(frozen=True, slots=True)
class Image:
    """One image: where its Dockerfile is, what is handed to it, and which files it is made of."""

    name: str
    dockerfile: str = ""
    files: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    base: "Image | None" = None
    # Stages that take long and stay the same while the code changes.
    kept_stages: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """Its full name, as a node resolves the short one."""
        return f"{REGISTRY}/{self.name}"

    def digest(self) -> str:
        """Of all that it is made of."""
        digest = hashlib.sha256()
        for text in (ROOTFS, self.name, sorted(self.arguments.items()), self.base and self.base.digest()):
            digest.update(repr(text).encode())
        for path in sorted(_files(ROOT / name for name in (self.dockerfile, *self.files) if name)):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:16]

    @property
    def archive(self) -> Path:
        """Where it lies when it is built."""
        return CACHE / "images" / f"{self.name.replace(':', '_')}-{self.digest()}.tar"


PYTHON = Image("levada-python:3.11")
VERSIONED = {"VERSION": VERSION}
KEPT_BUILDS = 3
KEPT = ("dependencies",)
OPERATOR = Image(f"levada-operator:{VERSION}", "images/operator/Dockerfile", OPERATOR_CODE, VERSIONED, PYTHON, KEPT)
FLOW = Image(f"levada-flow:{VERSION}", "images/flow/Dockerfile", FLOW_CODE, VERSIONED, PYTHON, (*KEPT, "overlay"))
FLOW_ML = replace(FLOW, name=f"{FLOW.name}-ml", arguments=VERSIONED | {"WITH": "ml,s3,dask"})
EXAMPLES = Image(f"levada-examples:{VERSION}", "images/examples/Dockerfile", ("flows",), {}, FLOW_ML)
# What the cluster has beside Levada.
PAUSE = Image("levada-e2e-pause:1", "tests/e2e/images/pause/Dockerfile", (), {}, PYTHON)
S3 = Image("levada-e2e-s3:1", "tests/e2e/images/s3/Dockerfile", ("constraints.txt",), {}, PYTHON)
COREDNS = Image(f"levada-e2e-coredns:{go_tools.COREDNS.version}", "tests/e2e/images/coredns/Dockerfile")
# The longest build first: two are made at a time.
LOADED = (EXAMPLES, OPERATOR, FLOW, S3, COREDNS, PAUSE)


_IGNORED = {"__pycache__", "node_modules"}  # as in .dockerignore


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """The files themselves, and those in the folders that an image is made of."""
    for path in paths:
        if path.is_file():
            yield path
        else:
            yield from (item for item in path.rglob("*") if item.is_file() and not _IGNORED & set(item.parts))


class Buildah:
    """buildah with a storage of its own in the cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._policy = folder / "policy.json"
        self._policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))

    def __call__(self, *arguments: str | Path, what: str) -> str:
        """Run a command of buildah."""
        places = ["--root", self.folder / "storage", "--runroot", self.folder / "run"]
        environment = os.environ | {"STORAGE_DRIVER": "overlay", "BUILDAH_ISOLATION": "chroot"}
        return run(["buildah", *places, *arguments], what=what, env=environment)

    def build(self, image: Image, context: Path) -> None:
        """Build an image from its Dockerfile and the files of the context."""
        arguments = dict(image.arguments)
        if image.base is not None:
            arguments["BASE"] = image.base.reference
        flags = [item for name, value in arguments.items() for item in ("--build-arg", f"{name}={value}")]
        # What pip needs to know of this machine: its index and whom it trusts.
        for path in ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"):
            if Path(path).exists():
                flags += ["--volume", f"{path}:{path}:ro"]
        build = ("build", "--pull-never", "--layers", "--format", "docker", "--network", "host", *flags)
        chosen = ("--signature-policy", self._policy, "--file", ROOT / image.dockerfile)
        for stage in image.kept_stages:
            # A name keeps the stage's layers when the cache is pruned.
            name = f"{image.reference}-{stage}"
            self(*build, *chosen, "--target", stage, "--tag", name, context, what=f"building {name}")
        self(*build, *chosen, "--tag", image.reference, context, what=f"building {image.name}")

    def make_base(self, image: Image, rootfs: Path) -> None:
        """An image that is this folder."""
        container = self("from", "scratch", what="buildah from").strip()
        self("add", container, rootfs, "/", what="buildah add")
        self(
            "config", "--cmd", "python", "--env", "PATH=/usr/local/bin:/usr/bin:/bin", container, what="buildah config"
        )
        self(
            *("commit", "--format", "docker", "--signature-policy", self._policy, "--rm", container, image.reference),
            what="buildah commit",
        )

    def save(self, image: Image) -> None:
        """Write the image's archive; it gets its name only when it is whole. Of older builds some stay: another checkout may be using them."""
        archive = image.archive
        archive.parent.mkdir(parents=True, exist_ok=True)
        part = archive.with_suffix(".part")
        part.unlink(missing_ok=True)
        target = f"docker-archive:{part}:{image.reference}"
        self("push", "--signature-policy", self._policy, image.reference, target, what=f"saving {image.name}")
        older = archive.parent.glob(f"{image.name.replace(':', '_')}-{'[0-9a-f]' * 16}.tar")
        for old in sorted(older, key=lambda path: path.stat().st_mtime)[: -KEPT_BUILDS + 1]:
            old.unlink()
        part.rename(archive)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure(programs: Programs, progress: Progress) -> None:
    """Have the archives of all images."""
    with _alone(CACHE):
        missing = [image for image in LOADED if not image.archive.exists()]
        if not missing:
            return
        buildah = Buildah(CACHE / "buildah")
        buildah("rm", "--all", what="buildah rm")  # working containers of a build that was killed
        if not PYTHON.archive.exists():
            buildah.make_base(PYTHON, _rootfs(progress))
            buildah.save(PYTHON)

        def make(image: Image) -> None:
            progress(f"building image {image.name}")
            if image.base is not None and image.base is not PYTHON:
                buildah.build(image.base, ROOT)
            buildah.build(image, programs.coredns.parent if image is COREDNS else ROOT)
            buildah.save(image)

        with ThreadPoolExecutor(max_workers=2) as workers:
            list(workers.map(make, missing))
        buildah("rmi", "--prune", what="buildah rmi")


def _rootfs(progress: Progress) -> Path:
    """A small Debian with Python: what `python:3.11-slim` is elsewhere."""
    folder = CACHE / f"rootfs-{SUITE}-{hashlib.sha256(repr(ROOTFS).encode()).hexdigest()[:8]}"
    if folder.exists():
        return folder
    progress(f"making a base file system of Debian {SUITE}")
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    packages = f"--include={','.join(ROOTFS_PACKAGES)}"
    run(["unshare", "--mount", "debootstrap", "--variant=minbase", packages, SUITE, part], what="debootstrap")
    for dropped in ROOTFS_DROPPED:
        for item in (part / dropped).glob("*"):
            shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()
    part.rename(folder)
    return folder


def unpacked_bytes(archive: Path) -> int:
    """How large the image's layers are together, unpacked."""
    listing = subprocess.run(["tar", "-tvf", str(archive)], capture_output=True, text=True, check=True).stdout
    return sum(int(line.split()[2]) for line in listing.splitlines() if line.endswith(".tar"))
