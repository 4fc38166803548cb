"""The server of stages.tools.draw: it reads as predict does, and answers nobody but its page."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import psutil
import pytest
import yaml
from onnx import helper, numpy_helper
from PIL import Image, ImageDraw

from stages.shared import graph_file
from stages.shared.graph_file import GraphFileError
from stages.shared.model_file import Description
from stages.tools import draw, predict
from stages.tools.draw import SIDE, DrawError, Network, Server
from tests.drawing import DIGITS, serving

TOP = Path(__file__).parents[1]
CLASS_NAMES = ["no", "one", "two"]
WHOLE = {"Content-Type": "application/octet-stream"}


def described(names: object, size: tuple[int, int]) -> str:
    """What such a network says of itself; the mean is that of light strokes on black."""
    about = Description(
        network="tutorial",
        image_size=size,
        class_names=CLASS_NAMES,
        mean=0.1,
        std=0.3,
        held_out=1,
        params={},
        versions={},
    )
    return json.dumps(json.loads(about.model_dump_json()) | {"class_names": names})


def one_layer(
    weights: np.ndarray, names: object, size: tuple[int, int], *before: onnx.NodeProto
) -> onnx.ModelProto:
    """A graph of one layer, as the stage `export` would describe it.

    Args:
        weights: (pixels, classes).
        names: of its classes.
        size: of its images.
        before: nodes that come first.
    """
    classes = weights.shape[1]
    graph = helper.make_graph(
        [
            *before,
            helper.make_node("Cast", ["images"], ["cast"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Flatten", ["cast"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["logits"]),
        ],
        "one_layer",
        [helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["N", *size])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"description": described(names, size)})
    return model


def write_network(
    path: Path,
    names: object = CLASS_NAMES,
    size: tuple[int, int] = (28, 28),
    value: float | None = None,
) -> None:
    """A network of one layer, in the form in which the stage `export` writes one.

    Args:
        path: the file.
        names: of its classes.
        size: of its images.
        value: of all weights; None draws them.
    """
    weights = np.random.default_rng(0).normal(0, 0.001, (size[0] * size[1], len(CLASS_NAMES)))
    if value is not None:
        weights = np.full_like(weights, value)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(graph_file.to_bytes(one_layer(weights, names, size)))


def drawn(digit: str) -> np.ndarray:
    """A digit as the page sends it: uint8 (SIDE, SIDE), dark on light."""
    image = Image.new("L", (SIDE, SIDE), 255)
    for stroke in DIGITS[digit]:
        points = [(x * SIDE, y * SIDE) for x, y in stroke]
        ImageDraw.Draw(image).line(points, fill=0, width=20, joint="curve")
    return np.asarray(image)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("draw") / "digits.onnx"
    write_network(path)
    with Server(0, Network(path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def send(
    server: Server, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Ask the server; a POST names the server's own page as its origin, unless told otherwise."""
    connection = http.client.HTTPConnection(draw.ADDRESS, server.port, timeout=20)
    if method == "POST":
        headers = {"Origin": server.url.rstrip("/"), **headers}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def raw(server: Server, text: str) -> tuple[int, dict[str, Any]]:
    """Send bytes and nothing after them, and read the JSON answered before the connection ends."""
    with socket.create_connection((draw.ADDRESS, server.port), timeout=20) as connection:
        connection.sendall(text.encode("latin-1"))
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def post(server: Server, *lines: str) -> str:
    own = [f"Host: {server.hosts[0]}", f"Origin: http://{server.hosts[0]}"]
    return "\r\n".join(["POST /read HTTP/1.1", *own, *lines, "", ""])


@pytest.mark.parametrize("digit", DIGITS)
@pytest.mark.parametrize("negative", [False, True])
def test_a_drawing_is_read_as_predict_reads_the_same_picture(
    server: Server, tmp_path: Path, digit: str, negative: bool
) -> None:
    grey = ~drawn(digit) if negative else drawn(digit)
    Image.fromarray(grey).save(tmp_path / "x.png")
    (picture,), wrong = predict.fitted([tmp_path / "x.png"], server.network.description)
    assert not wrong

    status, _, content = send(server, "POST", "/read", grey.tobytes(), **WHOLE)
    found = json.loads(content)
    assert status == 200
    np.testing.assert_array_equal(found["image"], picture.digit.pixels)
    session = onnxruntime.InferenceSession(server.network._path)
    (logits,) = session.run(["logits"], {"images": picture.digit.pixels[None]})[0]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(found["probabilities"], expected, rtol=1e-5)


def test_the_page_learns_what_its_network_is(tmp_path: Path) -> None:
    write_network(tmp_path / "own.onnx", size=(20, 32))
    network = Network(tmp_path / "own.onnx")
    assert network.about() == {"side": SIDE, "image_size": (20, 32), "class_names": CLASS_NAMES}
    assert np.shape(network.read(drawn("4"))["image"]) == (20, 32)


def test_a_sheet_without_a_digit_is_answered_in_words(server: Server) -> None:
    status, _, content = send(server, "POST", "/read", b"\xff" * SIDE * SIDE, **WHOLE)
    assert status == 422
    assert "found no digit" in json.loads(content)["error"]


@pytest.mark.parametrize("path", ["/", "/?x", "/page.css", "/page.js", "/icon.svg", "/network"])
def test_what_is_served_keeps_to_itself(server: Server, path: str) -> None:
    status, headers, content = send(server, "GET", path)
    assert status == 200
    assert content
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    for word in ("unsafe", "http", "data:", "*"):
        assert word not in policy
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers
    elsewhere = re.findall(rb"(?:https?:)?//[\w.-]+\.\w+[^\s\"]*", content)
    assert elsewhere in ([], [b"http://www.w3.org/2000/svg"])  # a name, and no address


@pytest.mark.parametrize(
    "path", ["/draw.png", "/../draw.py", "/%2e%2e/draw.py", "//etc/passwd", "/read", "*", "/\x7f"]
)
def test_nothing_else_is_served(server: Server, path: str) -> None:
    status, answer = raw(server, f"GET {path} HTTP/1.1\r\nHost: {server.hosts[0]}\r\n\r\n")
    assert status == 404
    assert "no such page" in answer["error"]


def test_this_machine_is_asked_under_either_name(server: Server) -> None:
    port = server.port
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert send(server, "GET", "/", Host=host)[0] == 200
        origin = {"Host": host, "Origin": f"http://{host}"}
        assert send(server, "POST", "/read", drawn("1").tobytes(), **origin)[0] == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "host", ["digits.example", "digits.example:{port}", "127.0.0.1", "0.0.0.0:{port}", ""]
)
def test_a_name_that_was_bent_to_this_machine_is_refused(
    server: Server, method: str, host: str
) -> None:
    host = host.format(port=server.port)
    body = drawn("1").tobytes() if method == "POST" else None
    origin = {"Origin": f"http://{host}"} if body else {}
    path = "/read" if body else "/network"
    status, _, content = send(server, method, path, body, Host=host, **origin)
    assert status == 403
    said = json.loads(content)["error"]
    assert said == f"Host: {host or 'none'}, expected {server.hosts[0]}"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "origin", ["http://digits.example", "null", "http://127.0.0.1:1", "https://{own}", ""]
)
def test_a_page_from_elsewhere_is_refused(server: Server, method: str, origin: str) -> None:
    origin = origin.format(own=server.hosts[0])
    body = drawn("1").tobytes() if method == "POST" else None
    path = "/read" if body else "/network"
    status, _, content = send(server, method, path, body, Origin=origin)
    assert status == 403
    assert json.loads(content)["error"].startswith(f"Origin: {origin or 'none'}, expected http://")


def test_who_posts_says_from_where(server: Server) -> None:
    text = post(server, "Content-Length: 78400").replace("Origin", "X-Origin")
    status, answer = raw(server, text)
    assert (status, answer["error"][:12]) == (403, "Origin: none")


def test_two_hosts_are_one_too_many(server: Server) -> None:
    text = post(server, "Host: digits.example", "Content-Length: 78400")
    assert raw(server, text)[0] == 403


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Content-Length: 78401", 413),
        ("Content-Length: 9000000000000", 413),
        (f"Content-Length: {'9' * 5000}", 413),
        ("Content-Length: 78399", 400),
        ("Content-Length: 0", 400),
        ("Content-Length: -1", 411),
        ("Content-Length: ten", 411),
        ("Content-Length: ²", 411),  # a digit to Python, and no number
        ("X: y", 411),
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: 78400\r\nTransfer-Encoding: chunked", 411),
    ],
)
def test_a_body_of_another_size_is_refused_before_it_is_read(
    server: Server, line: str, status: int
) -> None:
    # Nothing follows the head: who waited for it would wait until the time is up.
    found, answer = raw(server, post(server, line))
    assert found == status
    assert answer["error"].endswith("expected 280 x 280 bytes")


def test_a_body_that_breaks_off_is_said(server: Server) -> None:
    with socket.create_connection((draw.ADDRESS, server.port), timeout=20) as connection:
        connection.sendall(post(server, "Content-Length: 78400").encode() + b"\xff" * 500)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(12) == b"HTTP/1.1 400"


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("OPTIONS /read HTTP/1.1\r\n\r\n", 501),
        ("PUT / HTTP/1.1\r\n\r\n", 501),
        ("nonsense\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\n\r\n", 505),
        (f"GET /{'x' * 65532}", 414),  # of a line 65,537 bytes are read
        (f"GET / HTTP/1.1\r\nX: {'x' * 65534}", 431),
        ("GET /\r\n\r\n", 403),
        ("GET / HTTP/1.1\r\n" + "X: y\r\n" * 200 + "\r\n", 431),
    ],
)
def test_what_is_no_request_is_answered_in_words_too(
    server: Server, text: str, status: int
) -> None:
    found, answer = raw(server, text)
    assert found == status
    assert answer["error"]


def test_one_connection_serves_a_whole_drawing(server: Server) -> None:
    connection = http.client.HTTPConnection(draw.ADDRESS, server.port, timeout=20)
    headers = {"Origin": server.url.rstrip("/")}
    sockets = set()
    for digit in DIGITS:
        connection.request("POST", "/read", drawn(digit).tobytes(), headers)
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
        sockets.add(connection.sock)
    connection.close()
    assert len(sockets) == 1


def test_no_other_machine_is_answered(server: Server) -> None:
    # Linux answers at all of 127.0.0.0/8, as it does at the addresses of its network cards: what
    # is bound to one address is not reached by another.
    assert server.server_address[0] == "127.0.0.1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=20)


def test_a_port_that_is_taken_is_said(server: Server) -> None:
    port = server.port
    with pytest.raises(DrawError, match=rf"^--port: {port} is taken by another program, expected"):
        Server(port, server.network)


@pytest.mark.parametrize("port", ["80", "1023", "65536", "-1", "x", "", "٣", "9" * 5000])
def test_a_port_that_cannot_be_is_said(capsys: pytest.CaptureFixture[str], port: str) -> None:
    with pytest.raises(SystemExit):
        draw.parse([f"--port={port}"])
    assert "expected 1024 to 65535, or 0 for any free one" in capsys.readouterr().err


def test_the_network_is_read_where_the_export_writes_it() -> None:
    stages = yaml.safe_load((TOP / "dvc.yaml").read_text())["stages"]
    assert str(graph_file.PATH) in stages["export"]["outs"]


def test_a_missing_network_is_said_with_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(GraphFileError, match=r"x\.onnx: no such file; `make repro` makes it$"):
        Network(tmp_path / "x.onnx")


def test_a_network_whose_names_do_not_fit_is_said(tmp_path: Path) -> None:
    write_network(tmp_path / "x.onnx", names=["no", "one"])
    with pytest.raises(DrawError, match=r"x\.onnx: 3 logits, expected 2, one for each name"):
        Network(tmp_path / "x.onnx")


def test_a_network_of_no_numbers_is_said(tmp_path: Path) -> None:
    write_network(tmp_path / "digits.onnx", value=np.nan)
    with pytest.raises(DrawError, match="answers with numbers that are not finite"):
        Network(tmp_path / "digits.onnx")


def test_an_answer_of_no_numbers_is_said_to_the_page(tmp_path: Path) -> None:
    write_network(
        tmp_path / "digits.onnx", value=3e38
    )  # nothing at all comes to 0, as at the start
    with Server(0, Network(tmp_path / "digits.onnx")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        status, _, content = send(server, "POST", "/read", drawn("7").tobytes(), **WHOLE)
        server.shutdown()
    assert status == 422
    said = json.loads(content)["error"]
    assert said.endswith("digits.onnx: answers with numbers that are not finite")


def test_jittor_is_not_started() -> None:
    said = "import sys, stages.tools.draw; print('jittor' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", said], cwd=TOP, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the code and a network."""
    (tmp_path / "stages").symlink_to(TOP / "stages")
    write_network(tmp_path / graph_file.PATH)
    return tmp_path


@contextmanager
def command(folder: Path, *words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """The tool as at a machine without a screen; it ends with the test, if not before."""
    screens = ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY")
    kept = {key: value for key, value in os.environ.items() if key not in screens}
    with subprocess.Popen(
        [sys.executable, "-m", "stages.tools.draw", *words],
        cwd=folder, env={**kept, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as tool:  # fmt: skip
        try:
            yield tool
        finally:
            tool.kill()


def test_ctrl_c_ends_it_in_a_line(project: Path) -> None:
    with command(project, "--port=0") as tool:
        assert tool.stdout is not None
        line = tool.stdout.readline()
        assert re.fullmatch(
            r"Draw a digit at http://127\.0\.0\.1:\d+/ \(Ctrl-C ends it\);"
            r" models/digits\.onnx reads it\n",
            line,
        )
        tool.send_signal(signal.SIGINT)
        out, err = tool.communicate(timeout=20)
    assert (out, err) == ("", "stopped\n")
    assert tool.returncode == -signal.SIGINT


def test_connections_that_use_up_all_descriptors_cost_nothing(project: Path) -> None:
    with command(project, "--port=0") as tool:
        assert tool.stdout is not None
        port = int(tool.stdout.readline().split(":")[2].partition("/")[0])
        process = psutil.Process(tool.pid)
        limit = process.num_fds() + 5
        process.rlimit(psutil.RLIMIT_NOFILE, (limit, limit))
        with ExitStack() as opened:
            for _ in range(9):  # five wait at the port
                opened.enter_context(socket.create_connection((draw.ADDRESS, port), timeout=20))
            while process.num_fds() < limit:
                time.sleep(0.01)
            before = sum(process.cpu_times()[:2])
            time.sleep(1)
            assert sum(process.cpu_times()[:2]) - before < 0.5
        connection = http.client.HTTPConnection(draw.ADDRESS, port, timeout=20)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()


def test_a_port_is_free_again_at_once(project: Path) -> None:
    with serving(project) as url:
        port = url.rstrip("/").rpartition(":")[2]
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
    with serving(project, f"--port={port}") as again:
        assert again == url


def test_the_page_is_opened_and_served(project: Path) -> None:
    browser = project / "browser"
    browser.write_text('#!/bin/sh\necho "opened $1"\n')
    browser.chmod(0o755)
    with command(project, "--port=0", BROWSER=str(browser)) as tool:
        assert tool.stdout is not None
        url = re.findall(r"http\S+", tool.stdout.readline())[0]
        assert tool.stdout.readline() == f"opened {url}\n"
        port = int(re.findall(r"\d+", url)[-1])
        connection = http.client.HTTPConnection(draw.ADDRESS, port, timeout=20)
        connection.request("GET", "/network")
        assert json.loads(connection.getresponse().read())["class_names"] == CLASS_NAMES
        tool.terminate()
        assert tool.communicate(timeout=20) == ("", "")


@pytest.mark.parametrize("words", [[], ["--no-browser"]])
@pytest.mark.parametrize("screen", ["BROWSER", "DISPLAY", "WAYLAND_DISPLAY", None])
def test_no_browser_is_opened_where_there_is_no_screen_or_none_is_wanted(
    project: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], screen: str | None
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    monkeypatch.setattr(Server, "serve_forever", lambda _: None)
    monkeypatch.setattr("sys.argv", ["draw", "--port=0", *words])
    monkeypatch.chdir(project)
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv(screen, ":0")
    before = set(threading.enumerate())
    draw.main()
    for thread in set(threading.enumerate()) - before:
        thread.join()
    assert len(opened) == (screen is not None and not words)


def test_without_a_network_the_tool_says_what_to_do(project: Path) -> None:
    (project / graph_file.PATH).unlink()
    with command(project) as tool:
        out, err = tool.communicate(timeout=20)
    assert (tool.returncode, out) == (1, "")
    assert err == "error: models/fast.onnx: no such file; `make repro` makes it\n"
