"""The package as a package: what an import costs, what is shipped, and that both ways to install it work."""

from __future__ import annotations

import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import spikekit as sk

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"spikekit": "spikekit", "models": "spikekit.models", "datasets": "spikekit.datasets"}
OPTIONAL = (
    "lightning",
    "lightning_fabric",
    "tonic",
    "matplotlib",
    "sklearn",
    "scipy",
    "rich",
    "tensorboard",
    "h5py",
    "yaml",
    "PIL",
    "tokenizers",
)


def python(*arguments, executable=sys.executable, **settings):
    done = subprocess.run([str(executable), *arguments], capture_output=True, text=True, timeout=250, **settings)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def sources():
    """Every Python file of the package: (path in the package, file)."""
    for folder, package in FOLDERS.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            if "__pycache__" not in file.parts:
                yield Path(*package.split(".")) / file.relative_to(ROOT / folder), file


IMPORT = f"""
import sys, time, torch, numpy
start = time.process_time()
import spikekit
print(time.process_time() - start, *(set({OPTIONAL!r}) & set(sys.modules)))
"""


def test_import_is_fast_quiet_and_needs_no_extra():
    """Processor time beyond torch and numpy; a busy machine gets two more tries."""
    for _ in range(3):
        seconds, *optional = python("-W", "error", "-c", IMPORT).split()
        assert optional == []
        if float(seconds) < 0.3:
            return
    pytest.fail(f"import spikekit took {seconds} s of processor time beyond torch")


def test_public_names():
    for name in sk.__all__:
        assert getattr(sk, name) is not None, name
    assert len(set(sk.__all__)) == len(sk.__all__)
    with pytest.raises(AttributeError, match="module 'spikekit' has no attribute 'nothing'"):
        sk.nothing  # noqa: B018


@pytest.fixture(scope="module")
def project():
    tomllib = pytest.importorskip("tomllib", reason="in the standard library from Python 3.11 on")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed(project):
    found = {".".join(path.parent.parts) for path, _ in sources() if path.name == "__init__.py"}
    assert found == set(project["tool"]["setuptools"]["packages"])


def test_every_file_is_shipped(project):
    """A script in a folder without __init__.py is data: left out of package-data it is left out of the wheel."""
    setuptools = project["tool"]["setuptools"]
    data = {
        file
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    packages = set(setuptools["packages"])
    missing = [
        str(path) for path, file in sources() if ".".join(path.parent.parts) not in packages and file not in data
    ]
    assert not missing
    assert ROOT / "spikekit/py.typed" in data


def test_version(project):
    assert project["project"]["version"] == sk.__version__


def test_errors_name_an_extra_that_exists(project):
    call = re.compile(r"""require\(\s*["'][\w.]+["'],\s*(?:extra=)?["'](\w+)["']""")
    asked = {match[1] for _, file in sources() for match in call.finditer(file.read_text())}
    assert asked
    assert asked <= set(project["project"]["optional-dependencies"])


def test_typed():
    assert (Path(sk.__file__).parent / "py.typed").is_file()


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what is needed to build, so that building leaves nothing in the checkout."""
    tree = tmp_path_factory.mktemp("tree")
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, tree / name)
    return tree


@pytest.fixture
def environment(tmp_path):
    """A new environment that sees every installed package but spikekit; returns its interpreter."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    variables = {"base": str(folder), "platbase": str(folder)}
    seen = tmp_path / "seen"
    seen.mkdir()
    for origin in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()}:
        for entry in Path(origin).iterdir() if Path(origin).is_dir() else ():
            ours = entry.name.lower().startswith(("spikekit", "__editable__"))
            if not ours and not (seen / entry.name).exists():
                (seen / entry.name).symlink_to(entry)
    library = Path(sysconfig.get_path("purelib", "venv", variables))
    library.mkdir(parents=True, exist_ok=True)
    (library / "seen.pth").write_text(f"{seen}\n")
    return Path(sysconfig.get_path("scripts", "venv", variables)) / Path(sys.executable).name


def pip(environment, *arguments):
    common = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python("-m", "pip", arguments[0], *common, *arguments[1:], executable=environment, env=clean)


IMPORTS = """
import pathlib, torch, spikekit as sk, spikekit.models, spikekit.datasets, spikekit.export.lava.client as client
for module in (sk, sk.models, sk.datasets):
    print(pathlib.Path(module.__file__).parent)
assert (pathlib.Path(sk.__file__).parent / "py.typed").is_file()
assert client.WORKER.is_file(), client.WORKER
x = torch.ones(2, 1, 3, requires_grad=True)
sk.Sequential(torch.nn.Linear(3, 2), sk.LIF(), sk.LI())(x).sum().backward()
"""


@pytest.mark.slow
def test_wheel(tree, environment, tmp_path):
    pip(environment, "wheel", "--wheel-dir", str(tmp_path), str(tree))
    (wheel,) = tmp_path.glob("spikekit-*.whl")
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    data = {path.relative_to(ROOT).as_posix() for kind in ("*.c", "*.h") for path in (ROOT / "spikekit").rglob(kind)}
    data |= {f"spikekit/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "models").rglob("*.yaml")}
    assert shipped == {path.as_posix() for path, _ in sources()} | data | {"spikekit/py.typed"}
    pip(environment, "install", str(wheel))
    places = python("-W", "error", "-c", IMPORTS, executable=environment, cwd=tmp_path).split()
    assert all(Path(place).is_relative_to(environment.parent.parent) for place in places)


@pytest.mark.slow
def test_editable(tree, environment, tmp_path):
    pip(environment, "install", "--editable", str(tree))
    places = python("-W", "error", "-c", IMPORTS, executable=environment, cwd=tmp_path).split()
    assert places == [str(tree / folder) for folder in FOLDERS]
