"""The binaries: built by plain cargo in the development profile, which shares most of its work with the tests."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

from trial.places import ROOT
from trial.steps import Failure, expect


def build(binaries: list[str]) -> dict[str, Path]:
    """Builds them; says where each lies."""
    # Of the whole workspace: one package's features of dependencies are others, and would compile them anew.
    command = ["cargo", "build", "--workspace", "--message-format", "json-render-diagnostics"]
    for binary in binaries:
        command += ["--bin", binary]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    expect(done.returncode == 0, "The functions do not build", "what cargo said above")
    found: dict[str, Path] = {}
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            found[message["target"]["name"]] = Path(message["executable"])
    missing = sorted(set(binaries) - set(found))
    expect(not missing, f"The template names binaries that were not built: {missing}")
    return found


def package(built: dict[str, Path], folder: Path) -> dict[str, Path]:
    """Puts each binary, without its debug information, into an archive as `bootstrap`."""
    strip = shutil.which("strip")
    if strip is None:
        raise Failure("There is no `strip`", "install binutils: without it each archive has 100 MB")
    archives: dict[str, Path] = {}
    for name, binary in built.items():
        bootstrap, archive = folder / name / "bootstrap", folder / f"{name}.zip"
        archives[name] = archive
        if archive.exists() and archive.stat().st_mtime > binary.stat().st_mtime:
            continue
        bootstrap.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([strip, "-o", bootstrap, binary], check=True)
        bootstrap.chmod(0o755)
        part = archive.with_suffix(".part")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            packed.write(bootstrap, "bootstrap")
        part.rename(archive)
        shutil.rmtree(bootstrap.parent)
    return archives
