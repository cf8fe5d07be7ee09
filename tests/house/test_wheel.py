"""The wheel holds the packages whole, and its commands run where the repository is not."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.house.repository import LAYERS, ROOT, kept_files


def _run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it sees no PYTHONPATH, so nothing of the repository."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of the files as they are, built from a copy: a build leaves folders behind."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in kept_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    _run(sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", built, source, cwd=built)
    return next(built.glob("*.whl"))


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        held = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert sorted(held) == sorted(name for name in kept_files() if name.split("/")[0] in LAYERS and "/" in name)


@pytest.mark.long
def test_a_command_of_the_wheel_runs_in_an_empty_environment_from_another_folder(wheel: Path, tmp_path: Path):
    environment, elsewhere = tmp_path / "environment", tmp_path / "elsewhere"
    elsewhere.mkdir()
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    _run(*pip, "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=elsewhere)

    # The libraries come from where the tests have theirs, but no module of ours: Python reads no .pth file of a folder
    # that a .pth file names, so an editable install there cannot hand over what the wheel lacks.
    packages = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=elsewhere).strip())
    (packages / "libraries.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))

    assert "--tuned" in _run(python, "-m", "finetune.compare", "--help", cwd=elsewhere)
    origin = _run(python, "-c", "import finetune; print(finetune.__file__)", cwd=elsewhere).strip()
    assert Path(origin) == packages / "finetune" / "__init__.py"
