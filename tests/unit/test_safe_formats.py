"""Only safetensors, JSON, msgpack and TOML are ever loaded: what they hold cannot run."""

import ast
import hashlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from online_model import checkpoint
from online_model.protocol import State

ROOT = Path(__file__).parents[2]
PACKAGES = ("online_model", "stream", "producers", "monitoring")
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "jsonpickle"}
CALLS = {
    "eval",
    "exec",
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "np.load",
    "numpy.load",
    "pd.read_pickle",
    "os.system",
    "os.popen",
}
METHODS = {"read_pickle", "load_pickle", "recv"}
"""`recv` of a multiprocessing connection unpickles; the trainer's pipe carries bytes that are decoded."""


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def unsafe(source: str) -> Iterator[str]:
    """Name what in this source could run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in CALLS or ("." in name and name.rpartition(".")[2] in METHODS):
                yield name
            if any(word.arg in ("shell", "allow_pickle") and _is_true(word.value) for word in node.keywords):
                yield f"{name} with shell or allow_pickle"


def _is_true(value: ast.expr) -> bool:
    return not (isinstance(value, ast.Constant) and value.value is False)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from yaml import load",
        "import torch\ntorch.load(path)",
        "connection.recv()",
        "np.load(path)",
        "eval(text)",
        "subprocess.run(command, shell=True)",
        "reader(path, allow_pickle=True)",
    ],
)
def test_the_search_finds(source: str) -> None:
    assert list(unsafe(source))


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_that_is_read_can_run(package: str) -> None:
    """Seen red with `import pickle` in a module."""
    files = list((ROOT / package).rglob("*.py"))
    assert files
    found = {str(path.relative_to(ROOT)): list(unsafe(path.read_text(encoding="utf-8"))) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.fixture
def went_off(tmp_path: Path) -> Path:
    return tmp_path / "went-off"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return checkpoint.save(tmp_path / "checkpoints", {"learner": State({"w": torch.ones(3)}, {"n": 1})}, {"at": 1})


def bomb(went_off: Path) -> bytes:
    """Pickled bytes that do go off, so that the tests below mean something."""
    data = pickle.dumps(Bomb(went_off))
    pickle.loads(data)
    assert went_off.exists()
    went_off.unlink()
    return data


def test_a_pickle_beside_the_files_of_a_checkpoint_is_ignored(saved: Path, went_off: Path) -> None:
    for name in ("learner.pkl", "learner.pt", "model.bin", "data.npy"):
        (saved / name).write_bytes(bomb(went_off))
    found = checkpoint.newest(saved.parent).checkpoint
    assert found is not None
    assert found.states["learner"].tensors["w"].tolist() == [1, 1, 1]
    assert not went_off.exists()


@pytest.mark.parametrize("kind", ["pickle", "torch.save"])
def test_a_pickle_in_the_place_of_a_checkpoints_file_is_refused(saved: Path, went_off: Path, kind: str) -> None:
    """Size and checksum are those of the manifest: who planted it can compute them too."""
    planted = saved / "learner.safetensors"
    planted.write_bytes(bomb(went_off))
    if kind == "torch.save":
        torch.save({"w": Bomb(went_off)}, planted)
    path = saved / "manifest.json"
    manifest = json.loads(path.read_text())
    data = planted.read_bytes()
    manifest["files"]["learner"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    del manifest["sha256"]
    own = hashlib.sha256(json.dumps(manifest, sort_keys=True, allow_nan=False).encode()).hexdigest()
    path.write_text(json.dumps(manifest | {"sha256": own}))
    with pytest.raises(checkpoint.TornCheckpoint, match=r"learner\.safetensors: "):
        checkpoint.load(saved)
    assert checkpoint.newest(saved.parent).checkpoint is None
    assert not went_off.exists()


def test_a_manifest_that_is_a_pickle_or_a_bomb_of_brackets_is_refused(saved: Path, went_off: Path) -> None:
    for content in (bomb(went_off), b"[" * 200_000):
        (saved / "manifest.json").write_bytes(content)
        with pytest.raises(checkpoint.TornCheckpoint):
            checkpoint.load(saved)
    assert not went_off.exists()
