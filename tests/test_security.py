"""No code runs from a file or a parameter, and no server is believed without a proof."""

from __future__ import annotations

import datetime
import http.server
import json
import pickle
import re
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stages import decode
from stages.shared import curves, datasets, digits, idx, model_file, params, scoring
from stages.shared.datasets import IdxFile
from stages.shared.program import UserError
from stages.shared.sources import SourceError, fetch
from stages.shared.training.checkpoints import Checkpoints
from stages.tools import pictures, recipe

TOP = Path(__file__).parents[1]


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.target), "w")


def pickled(tmp_path: Path) -> bytes:
    return pickle.dumps(Payload(tmp_path / "was-run"))


def objects(tmp_path: Path) -> bytes:
    """A .npy file of Python objects."""
    path = tmp_path / "objects.npy"
    np.save(path, np.array([Payload(tmp_path / "was-run")] * 3, dtype=object))
    return path.read_bytes()


def yaml(tmp_path: Path) -> bytes:
    return f"train: !!python/object/apply:builtins.open ['{tmp_path}/was-run', 'w']\n".encode()


def readers(folder: Path) -> dict[str, Callable[[], object]]:
    """Whatever reads a file, by the name of the file."""
    return {
        "digits.safetensors": lambda: model_file.load(folder / "digits.safetensors"),
        "train-images.npy": lambda: digits.load(folder, "train"),
        "class_names.json": lambda: digits.load_class_names(folder),
        "params.yaml": lambda: params.load(folder / "params.yaml"),
        "x.idx": lambda: idx.read(folder / "x.idx"),
        "x.png": lambda: pictures.load(folder / "x.png"),
        "scores.csv": lambda: scoring.read_scores(folder),
    }


@pytest.mark.parametrize("content", [pickled, objects, yaml])
@pytest.mark.parametrize("name", readers(Path()))
def test_no_file_runs_code(tmp_path: Path, name: str, content: Callable[[Path], bytes]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / name).write_bytes(content(tmp_path))
    with pytest.raises((UserError, UnicodeDecodeError)):
        readers(folder)[name]()
    assert not (tmp_path / "was-run").exists()


def test_no_checkpoint_runs_code(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "a" * 64)
    checkpoints.path.write_bytes(pickled(tmp_path))
    assert checkpoints.load() is None
    assert not (tmp_path / "was-run").exists()


DANGEROUS = re.compile(
    r"\bpickle\b|np\.load\(|allow_pickle|jt\.load|(?<!\.)\beval\(|\bexec\(|shell=True|os\.system"
    r"|yaml\.(load|unsafe_load|full_load)(_all)?\(|(Unsafe|Full)Loader|unsafe[\"']|verify=False"
)


def code_of(path: Path) -> list[str]:
    """The lines of a module, or those of a notebook's cells."""
    if path.suffix == ".py":
        return path.read_text().splitlines()
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return "\n".join(code).splitlines()


def test_the_code_reads_nothing_in_a_way_that_could_run_code() -> None:
    paths = [*(TOP / "stages").rglob("*.py"), *(TOP / "stages").rglob("*.ipynb")]
    assert any(path.suffix == ".ipynb" for path in paths)
    for path in paths:
        lines = code_of(path)
        assert lines or path.name == "__init__.py"
        for line in lines:
            code = line.partition("#")[0]
            if DANGEROUS.search(code):
                pytest.fail(f"{path.relative_to(TOP)}: {line}")


@pytest.mark.parametrize(
    "line",
    [
        'YAML(typ="unsafe").load(text)',
        "YAML(typ='unsafe')",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "yaml.load_all(text)",
        "yaml.unsafe_load(text)",
        "np.load(path)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_what_could_run_code_is_known_in_all_its_spellings(line: str) -> None:
    assert DANGEROUS.search(line)
    assert not DANGEROUS.search('YAML(typ="safe").load(text) or yaml.safe_load(text)')


def test_no_name_from_outside_is_a_path(tmp_path: Path) -> None:
    """Neither that of a class nor that of a package: all is written where it always is."""
    inside = tmp_path / "above/inside"
    names = ["../../out", "/out-of-here", "..", "a/b", "~"]
    labels = np.arange(len(names), dtype=np.uint8)
    for name in datasets.IDX_FILES:
        pixels = np.zeros((len(names), 4, 5), np.uint8)
        idx.write(inside / "raw" / name, pixels if "images" in name else labels)
    decode.decode(inside / "raw", inside / "npy", names)
    assert digits.load_class_names(inside / "npy") == names
    logits = np.eye(len(names))
    scores = scoring.score(logits, labels, names)
    scoring.write(inside / "scores", scores, scoring.predictions(logits, labels))
    assert list(scoring.read_scores(inside / "scores").per_class) == names
    for package in ("../../out", str(tmp_path), "..", "os.path/.."):
        with pytest.raises(SourceError, match="no source has it"):
            fetch({"x": IdxFile()}, [f"package:{package}"], inside / "fetched")
    expected = {
        "raw": set(datasets.IDX_FILES),
        "npy": {*digits.ARRAYS, digits.CLASS_NAMES},
        "scores": {"metrics.json", "scores.csv", "per_class.csv", "predictions.csv"},
    }
    assert not Path("/out-of-here").exists()
    files = {path.relative_to(inside) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {Path(folder, name) for folder, held in expected.items() for name in held}


def test_a_parameter_is_no_command(tmp_path: Path) -> None:
    """What a recipe says reaches `dvc exp run` as words, and no stage's command holds a value."""
    text = (TOP / "params.yaml").read_text()
    bad = "$(touch was-run); touch was-run"
    path = tmp_path / "params.yaml"
    path.write_text(
        text.replace("recipes:", f"recipes:\n  bad: {{decode: {{class_names: ['{bad}']}}}}")
    )
    with pytest.raises(params.ParamsError):
        params.load(path)
    names = ", ".join(f"'{bad}{n}'" for n in range(10))
    path.write_text(
        text.replace("recipes:", f"recipes:\n  bad: {{decode: {{class_names: [{names}]}}}}")
    )
    words = recipe.command(params.load(path), "bad")
    assert sum(bad in word for word in words) == 1
    commands = re.findall(r"^ +cmd: (.*)$", (TOP / "dvc.yaml").read_text(), re.MULTILINE)
    assert all(re.fullmatch(r"python -m stages\.\w+", command) for command in commands)


@pytest.fixture
def impostor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a server on this machine whose certificate nobody has signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path = tmp_path / "server.pem"
    path.write_bytes(key.private_bytes(pem, *plain) + certificate.public_bytes(pem))
    (tmp_path / "served").mkdir()
    (tmp_path / "served/x").write_bytes(b"\0\0\x08\x01\0\0\0\x01x")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(tmp_path / "served"))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("NO_PROXY", "localhost")
    return f"https://localhost:{server.server_port}"


def test_a_server_that_cannot_prove_its_name_is_not_believed(
    impostor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # between tries
    with pytest.raises(SourceError, match="certificate verify failed"):
        fetch({"x": IdxFile()}, [impostor], tmp_path / "raw", timeout=5)
    assert list((tmp_path / "raw").iterdir()) == []


def test_what_downloads_does_not_start_jittor() -> None:
    """Jittor lets its process believe every server."""
    said = (
        "import sys, stages.download; print('jittor' in sys.modules, 'jittor_utils' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", said], cwd=TOP, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"


def test_a_curve_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        curves.read(tmp_path, "train/loss")


@pytest.mark.parametrize(
    "content", [b"\0" * 200_000, b'step\tloss\n1\t"' + b"2.5\n" * 50_000, b"x" * 200_000]
)
def test_a_curve_that_a_disk_damaged_is_refused_in_a_line(tmp_path: Path, content: bytes) -> None:
    path = curves._file(tmp_path, "train/loss")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        curves.read(tmp_path, "train/loss")
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < len(str(path)) + 500


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("-1\t0.5\n", "line 2 is '-1 0.5', expected a step and a number"),
        (f"{10**30}\t0.5\n", "expected a step and a number"),
        ("5\t0.5\n5\t0.4\n", "line 3 is '5 0.4', expected a step after 5 and a number"),
        ("5\t0.5\n2\t0.4\n", "line 3 is '2 0.4', expected a step after 5 and a number"),
    ],
)
def test_steps_that_do_not_rise_are_refused(tmp_path: Path, rows: str, said: str) -> None:
    path = curves._file(tmp_path, "train/loss")
    path.parent.mkdir(parents=True)
    path.write_text(f"step\tloss\n{rows}")
    with pytest.raises(UserError, match=re.escape(said)):
        curves.read(tmp_path, "train/loss")
