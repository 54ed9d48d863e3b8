"""Provide the embedded corpus, the Python sources of two pinned pure wheels, as a TFDS builder.

`sympy` 1.14.0 and `mpmath` 1.3.0 (both BSD) have the same bytes on every machine and need no
download other than by pip. The corpus excludes tests, files of at most 200 bytes, and exact
duplicates.
"""

from __future__ import annotations

import hashlib
import re
from importlib import metadata
from pathlib import Path

import tensorflow_datasets as tfds

from scaling.utils.errors import UserError

PACKAGES = {"sympy": "1.14.0", "mpmath": "1.3.0"}
# further packages that every installation of this project has, see `installed_files`
MORE = ("optax", "orbax-checkpoint", "tensorflow-datasets", "matplotlib", "ml-collections")
SHA256 = "20ab74fedd5d7fa0"  # first digits, over the concatenated files in order
MIN_BYTES = 200
TESTS = re.compile(r"/(tests|testing)/")


def source_files() -> list[tuple[str, bytes]]:
    """Return (path, content) of every file of the corpus, sorted by path within each package.

    Raises UserError if a package is missing or differs from the pinned release.
    """
    files = _distinct(PACKAGES)
    digest = hashlib.sha256(b"".join(content for _, content in files)).hexdigest()
    if not digest.startswith(SHA256):
        raise UserError(
            f"embedded corpus: SHA-256 begins {digest[:16]}, not {SHA256}; reinstall it with "
            + "pip install --force-reinstall "
            + " ".join(f"{p}=={v}" for p, v in PACKAGES.items())
        )
    return files


def installed_versions() -> dict[str, str]:
    """Return the version of each package of `installed_files`. Raises UserError without one."""
    return {package: _distribution(package).version for package in (*PACKAGES, *MORE)}


def installed_files() -> list[tuple[str, bytes]]:
    """Return (path, content) as `source_files` does, of more packages in any installed version."""
    return _distinct(installed_versions())


def _distinct(versions: dict[str, str]) -> list[tuple[str, bytes]]:
    """Return the sources of the packages without tests, tiny files and exact duplicates."""
    files, seen = [], set()
    for package, version in versions.items():
        for path, content in _package_sources(package, version):
            digest = hashlib.sha256(content).digest()
            if len(content) > MIN_BYTES and digest not in seen:
                seen.add(digest)
                files.append((path, content))
    return files


def _distribution(package: str, fix: str = "") -> metadata.Distribution:
    try:
        return metadata.distribution(package)
    except metadata.PackageNotFoundError as error:
        fix = fix or f"pip install {package}"
        raise UserError(f"embedded corpus: {package} is not installed; {fix}") from error


def _package_sources(package: str, version: str) -> list[tuple[str, bytes]]:
    fix = f"pip install {package}=={version}"
    distribution = _distribution(package, fix)
    if distribution.version != version:
        raise UserError(f"embedded corpus: {package} is {distribution.version}; {fix}")
    paths = sorted(
        str(p) for p in distribution.files or () if p.suffix == ".py" and not TESTS.search(str(p))
    )
    return [(p, Path(str(distribution.locate_file(p))).read_bytes()) for p in paths]


class PythonSources(tfds.core.GeneratorBasedBuilder):
    """TFDS data set `python_sources`: one record per file, features `text` and `path`."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "sympy 1.14.0 and mpmath 1.3.0 without their tests."}

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text(), "path": tfds.features.Text()}
            ),
            disable_shuffling=True,  # keep the order of the files under SHA256
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index, (path, content) in enumerate(source_files()):
            yield index, {"text": content.decode("utf-8"), "path": path}
