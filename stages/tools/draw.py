"""Draw a digit and watch the network read it: python -m stages.tools.draw

Reads models/digits.onnx, or while there is none the one that Git holds, and the page in
stages/tools/drawing; writes nothing. The page sends what
is drawn, as grey pixels, while it is drawn; ONNX Runtime reads it here after the preparation that
stages.tools.predict gives a picture. Nobody but pages of this server, on this machine, is answered.
"""

from __future__ import annotations

from stages.shared.program import UserError, run, visible

# isort: split
# From here on Ctrl-C is answered in a line, also while the rest is imported.
import argparse
import errno
import json
import os
import socket
import sys
import threading
import time
import webbrowser
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from scipy.special import softmax

from stages.shared import graph_file, model_file
from stages.shared.model_file import Description
from stages.tools.pictures import PictureError
from stages.tools.reading import fitting, reader

PRETRAINED = model_file.PRETRAINED.with_suffix(".onnx")
ADDRESS = "127.0.0.1"
PORT = 8028
_PAUSE = 0.1  # seconds
SIDE = 280  # pixels of the square that the page sends, one byte each
_FOLDER = Path(__file__).with_name("drawing")
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class DrawError(UserError):
    """No network to read with, or none that answers, or no port to answer at."""


class Network:
    """An exported network in ONNX Runtime, on one thread: a digit takes it a millisecond.

    Attributes:
        description: what it says of itself; `class_names` name its probabilities.
    """

    description: Description

    def __init__(self, path: Path) -> None:
        """Read what the stage `export` wrote.

        Raises:
            graph_file.GraphFileError: the file is missing or damaged.
            DrawError: it has other inputs or names, or answers with no numbers.
        """
        content, self.description = graph_file.read(path)
        self._path = path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # what is wrong is said below, in a line
        try:
            self._session = onnxruntime.InferenceSession(
                content,
                options,
                providers=["CPUExecutionProvider"],
                enable_fallback=False,  # it would print lines of its own
            )
            self.probabilities(np.zeros((1, *self.description.image_size), np.uint8))
        except DrawError:
            raise
        except Exception as error:  # ONNX Runtime's own have no class in common but this
            detail = visible(str(error)).splitlines()[0] if str(error) else type(error).__name__
            raise DrawError(
                f"{path}: not a network as `dvc repro export` writes it ({detail})"
            ) from None

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """What the network says about images.

        Args:
            images: uint8 (N, H, W) of the network's size, light or dark as it was trained.

        Returns:
            float64 (N, num_classes), from 0 to 1 and 1 in sum.

        Raises:
            DrawError: the network gives something else.
        """
        (logits,) = self._session.run(["logits"], {"images": images})
        names = self.description.class_names
        if logits.shape != (len(images), len(names)):
            raise DrawError(
                f"{self._path}: {logits.shape[-1]} logits, expected {len(names)}, one for each name"
            )
        if not np.isfinite(logits).all():
            raise DrawError(f"{self._path}: answers with numbers that are not finite")
        return np.asarray(softmax(logits.astype(np.float64), axis=1))

    def about(self) -> dict[str, Any]:
        """What the page has to know before anything is drawn."""
        about = self.description
        return {"side": SIDE, "image_size": about.image_size, "class_names": about.class_names}

    def read(self, grey: NDArray[np.uint8]) -> dict[str, Any]:
        """Read a drawing as `predict` reads a picture.

        Args:
            grey: uint8 (SIDE, SIDE), dark on light or light on dark.

        Returns:
            `readings`, from left to right: of each digit its `name`, its `confidence` from 0 to 1
            and whether that is `sure`. Of the largest of them `image`, H rows of W pixels from 0
            to 255, and `probabilities`, from 0 to 1.

        Raises:
            PictureError: there is no digit in it.
        """
        readings = [
            reading
            for digit in fitting.fit(grey, self.description)
            for reading in reader.read_fitted(digit, self.probabilities, self.description)
        ]
        largest = max(readings, key=lambda reading: _area(reading.digit.box))
        return {
            "readings": [
                {
                    "name": self.description.class_names[reading.probabilities.argmax()],
                    "confidence": reading.confidence,
                    "sure": reading.is_sure,
                }
                for reading in readings
            ],
            "image": largest.digit.pixels.tolist(),
            "probabilities": largest.probabilities.tolist(),
        }


def _area(box: tuple[int, int, int, int]) -> int:
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


class Server(ThreadingTCPServer):
    """Answers at one port of this machine, to this machine alone.

    It is no HTTPServer since that asks for the machine's name, which can take seconds offline.

    Attributes:
        port: the one that was taken.
        url: the address of the page.
        hosts: what a request may name as its host.
        files: what the page is made of, by name.
    """

    allow_reuse_address = True  # a port is free as soon as the program that had it has ended
    daemon_threads = True  # a browser holds its connections open

    def __init__(self, port: int, network: Network) -> None:
        """Take the port; connections wait from here on.

        Args:
            port: 0 takes any that is free.
            network: what reads.

        Raises:
            DrawError: another program has the port.
        """
        self.network = network
        # Now: where the connections use up the files that may be open, the page is still there.
        self.files = {name: (_FOLDER / name).read_bytes() for name, _ in _FILES.values()}
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise DrawError(
                f"--port: {port} is taken by another program, expected a free one"
                " (0 takes any that is free)"
            ) from None
        self.port = int(self.server_address[1])
        self.hosts = [f"{name}:{self.port}" for name in (ADDRESS, "localhost")]
        self.url = f"http://{self.hosts[0]}/"

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take the next connection, in a while if no more files may be open in this process."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_PAUSE)  # it waits still, and would be asked for without a rest
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that a closed page drops, or for which there is no thread.

        A bug keeps its traceback.
        """
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError) and str(error) != "can't start new thread":
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection: files of the page, and JSON; errors are JSON as well."""

    protocol_version = "HTTP/1.1"  # one connection for all of a drawing
    default_request_version = "HTTP/1.1"  # so what is no request is answered as one
    disable_nagle_algorithm = True
    timeout = 60  # seconds that a connection may be idle
    server: Server

    def do_GET(self) -> None:
        if self._is_foreign():
            return
        path = self.path.partition("?")[0]
        if path == "/network":
            self._answer_json(HTTPStatus.OK, self.server.network.about())
        elif path in _FILES:
            name, kind = _FILES[path]
            self._answer(HTTPStatus.OK, kind, self.server.files[name])
        else:
            self.send_error(HTTPStatus.NOT_FOUND, f"{path}: no such page")

    def do_POST(self) -> None:
        if self._is_foreign():
            return
        if self.path != "/read":
            self.send_error(HTTPStatus.NOT_FOUND, f"{self.path}: no such page")
            return
        body = self._body()
        if body is None:
            return
        grey = np.frombuffer(body, np.uint8).reshape(SIDE, SIDE)
        try:
            found = self.server.network.read(grey)
        except (PictureError, DrawError) as error:
            self.send_error(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
            return
        self._answer_json(HTTPStatus.OK, found)

    def _is_foreign(self) -> bool:
        """Refuse what no page of this server asks for.

        A page from elsewhere names itself as Origin, and could reach this server under a name of
        its own, which it would name as Host. Only a POST must have an Origin: browsers send none
        with the address that a person types.
        """
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or hosts[0] not in self.server.hosts:
            found, expected = f"Host: {', '.join(hosts) or 'none'}", self.server.hosts[0]
        elif origins != [f"http://{hosts[0]}"] and (origins or self.command == "POST"):
            found, expected = f"Origin: {', '.join(origins) or 'none'}", f"http://{hosts[0]}"
        else:
            return False
        self.send_error(HTTPStatus.FORBIDDEN, f"{found}, expected {expected}")
        return True

    def _body(self) -> bytes | None:
        """The drawing; None where something else was sent, which has then been answered."""
        size = SIDE * SIDE
        length = self.headers.get("Content-Length", "none")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            status = HTTPStatus.LENGTH_REQUIRED
        elif len(length) > 9 or int(length) > size:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        elif int(length) < size or len(body := self.rfile.read(size)) < size:
            status = HTTPStatus.BAD_REQUEST
        else:
            return body
        self.send_error(status, f"Content-Length: {length}, expected {SIDE} x {SIDE} bytes")
        return None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer with an error in words, and end the connection: what else came in is unread."""
        self.close_connection = True
        self._answer_json(code, {"error": message or explain or HTTPStatus(code).phrase})

    def _answer_json(self, status: int, content: dict[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(content, allow_nan=False).encode())

    def _answer(self, status: int, kind: str, content: bytes) -> None:
        self.send_response(status)
        headers = {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def version_string(self) -> str:
        return "draw"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the page shows what was answered."""


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line: port (int), browser (bool)."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.tools.draw", description="Draw a digit and watch it being read."
    )
    parser.add_argument(
        "--port", metavar="N", type=_port, default=PORT, help=f"the port to answer at ({PORT})"
    )
    parser.add_argument(
        "--no-browser", dest="browser", action="store_false", help="open no browser"
    )
    return parser.parse_args(words)


def _port(text: str) -> int:
    # Not 80 among them: browsers leave it out of the Host, which is compared whole.
    if text.isascii() and text.isdigit() and (text == "0" or 1024 <= int(text[:6]) <= 65535):
        return int(text)
    raise argparse.ArgumentTypeError(f"{text}, expected 1024 to 65535, or 0 for any free one")


def open_browser(url: str) -> None:
    """Open the page where there is a screen; elsewhere the browser would be one without scripts."""
    if os.environ.keys() & {"BROWSER", "DISPLAY", "WAYLAND_DISPLAY"}:
        # Some browsers return when they are closed.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def main() -> None:
    arguments = parse()
    path = graph_file.PATH if graph_file.PATH.exists() else PRETRAINED
    server = Server(arguments.port, Network(path))
    print(f"Draw a digit at {server.url} (Ctrl-C ends it); {path} reads it", flush=True)
    if arguments.browser:
        open_browser(server.url)
    server.serve_forever()


if __name__ == "__main__":
    run(main)
