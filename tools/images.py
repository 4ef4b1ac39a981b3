"""Container images without a container daemon: built by buildah from a project's own Dockerfile, and run in a chroot.

The base images that the Dockerfile names are stand-ins, because no image registry is needed then: Debian with its own
Python, made by mmdebstrap, and uv from PyPI. They have the same names, so the Dockerfile is built as it is. Needs root,
and the Debian packages buildah and mmdebstrap.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# The tools of a container runtime that has neither a daemon nor namespaces of its own.
STORE = Path(os.environ.get("FLOE_IMAGES", Path(tempfile.gettempdir()) / "floe-images"))
BUILDAH = ("buildah", "--root", str(STORE / "root"), "--runroot", str(STORE / "run"), "--storage-driver", "vfs")
PACKAGES = ("python3", "ca-certificates")


class MissingError(Exception):
    """A program that this module needs is not installed."""


@dataclass(frozen=True)
class Image:
    """An image, unpacked."""

    name: str
    root: Path  # its file system
    environment: dict[str, str]
    command: list[str]
    health_check: list[str]
    working_dir: str
    labels: dict[str, str]
    user: str
    container: str

    @property
    def size(self) -> int:
        """Return the bytes of its files."""
        return sum(path.lstat().st_size for path in self.root.rglob("*") if path.is_file() and not path.is_symlink())

    def remove(self) -> None:
        """Remove the image and what its build has left, except for the base images."""
        buildah("rm", self.container)
        buildah("rmi", self.name)
        buildah("rmi", "--prune")


def buildah(*arguments: str | Path, cwd: Path | None = None) -> str:
    """Run buildah and return its output.

    Raises:
        RuntimeError: It failed; the message is the end of what it printed.
    """
    done = subprocess.run(
        [*BUILDAH, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"BUILDAH_ISOLATION": "chroot"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        msg = f"buildah {arguments[0]}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    return done.stdout.strip()


def check_programs() -> None:
    """Check that the programs are there.

    Raises:
        MissingError: One is missing.
    """
    missing = [name for name in ("buildah", "mmdebstrap", "chroot", "unshare") if not shutil.which(name)]
    if missing:
        msg = f"{', '.join(missing)}: not installed; apt-get install buildah mmdebstrap"
        raise MissingError(msg)


def build(context: Path, name: str, file: str = "Dockerfile") -> Image:
    """Build a Dockerfile as it is, and unpack the image; `file` is relative to the context."""
    check_programs()
    text = (context / file).read_text()
    for base in dict.fromkeys(re.findall(r"^FROM (\S+)", text, re.MULTILINE)):
        _make_stand_in(base)
    ignored = [f"--ignorefile={file}.dockerignore"] if (context / f"{file}.dockerignore").exists() else []
    options = ["--layers=false", "--pull=never", "--format=docker", f"--file={file}", f"--tag={name}", *ignored]
    buildah("build", *options, ".", cwd=context)
    return unpack(name)


def unpack(name: str) -> Image:
    """Return an image with its file system."""
    container = buildah("from", "--pull-never", name)
    root = Path(buildah("mount", container))
    config = json.loads(buildah("inspect", "--type=image", name))["Docker"]["config"]
    return Image(
        name,
        root,
        dict(variable.split("=", 1) for variable in config["Env"]),
        config["Cmd"],
        config["Healthcheck"]["Test"][1:],
        config["WorkingDir"],
        config["Labels"],
        config["User"],
        container,
    )


def _make_stand_in(base: str) -> None:
    """Make a base image under the name that a Dockerfile gives it, unless it is there."""
    known = buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()
    full = base if "/" in base else f"docker.io/library/{base}"
    if full in known:
        return
    container = buildah("from", "scratch")
    root = Path(buildah("mount", container))
    if "/uv:" in base:
        _unpack_uv(base.rpartition(":")[2], root)
    else:
        suite = base.rpartition("-")[2]
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(root)],
            check=True,
            capture_output=True,
        )
        if CERTIFICATES.exists():  # those of this machine: a command of the Dockerfile does not inherit them
            shutil.copy(CERTIFICATES, root / str(CERTIFICATES).lstrip("/"))
        buildah("config", "--env", f"SSL_CERT_FILE={CERTIFICATES}", container)
        buildah("config", "--env", "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", container)
    buildah("umount", container)
    buildah("commit", "--rm", "--format=docker", container, full)


def _unpack_uv(version: str, root: Path) -> None:
    """Put the program of a version of uv into `root`, from its wheel."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["uv", "pip", "install", "--quiet", "--no-deps", "--target", folder, f"uv=={version}"], check=True
        )
        program = next(path for path in Path(folder).rglob("bin/uv"))
        shutil.copy(program, root / "uv")
