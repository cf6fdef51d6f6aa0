"""Which packages are installed, and the command that installs those that are missing."""

import sys
from importlib import metadata
from pathlib import Path


def version(name):
    """Version of an installed package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def install(extra=""):
    """The command that installs us, or one of our extras, into the Python that runs; for our checkout's folder."""
    pip = Path(sys.executable).with_name("pip")
    home = Path.cwd()
    pip = pip.relative_to(home) if pip.is_relative_to(home) else pip
    return f'{pip} install -e ".{f"[{extra}]" if extra else ""}"'
