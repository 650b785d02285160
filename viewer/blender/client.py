"""The process of renderformer that draws: how it is found, started and talked to.

Messages are those of renderformer/viewer/messages.py: a length in eight bytes and so many bytes of safetensors.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

# Of the messages, see renderformer/viewer/serve.py.
PROTOCOL = 1
INSTALL = "pip install renderformer"
JSON = "message"
_TYPES = {"U8": np.uint8, "I32": np.int32, "F32": np.float32, "F64": np.float64}
_CODES = {np.dtype(kind): code for code, kind in _TYPES.items()}
# Last lines of the process's own messages that an error repeats.
_KEPT_LINES = 20


class ClientError(Exception):
    """The process cannot be started, or has ended; one line."""


def packed(message: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> bytes:
    """The bytes of a message with arrays by name."""
    text = np.frombuffer(json.dumps(message, allow_nan=False).encode(), np.uint8)
    header, parts, end = {}, [], 0
    for name, values in {**(arrays or {}), JSON: text}.items():
        content = np.ascontiguousarray(values)
        begin, end = end, end + content.nbytes
        header[name] = {"dtype": _CODES[content.dtype], "shape": list(content.shape), "data_offsets": [begin, end]}
        parts.append(content.tobytes())
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<QQ", 8 + len(head) + end, len(head)) + head + b"".join(parts)


def read(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """The next message and its arrays; None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    content = stream.read(struct.unpack("<Q", head)[0])
    if len(content) < 8:
        return None
    start = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    arrays = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(content[start + begin : start + end], _TYPES[entry["dtype"]])
        arrays[name] = values.reshape(entry["shape"])
    return json.loads(arrays.pop(JSON).tobytes()), arrays


def command(program: str, options: Iterable[str] = ()) -> list[str]:
    """The command that starts the process.

    Args:
        program: path of `renderformer` or of a Python that has it; empty to look for it on PATH and where pip puts
            programs of a user.

    Raises:
        ClientError: it is not there.
    """
    if not program:
        places = os.pathsep.join([os.environ.get("PATH", ""), *_usual_folders()])
        program = shutil.which("renderformer", path=places) or ""
        if not program:
            raise ClientError(f"renderformer is not found on PATH; {INSTALL}, or name it in the add-on's preferences")
    elif shutil.which(program) is None:
        raise ClientError(f"{program} cannot be started; correct the path in the add-on's preferences")
    python = Path(program).name.lower().startswith("python")
    return [program, *(["-m", "renderformer.cli.main"] if python else []), "serve", *options]


def _usual_folders() -> list[str]:
    home = Path.home() / ".local" / "bin"
    scheme = sysconfig.get_preferred_scheme("user")
    return [str(home), sysconfig.get_path("scripts", scheme) or ""]


def _ending(code: int) -> str:
    """How a process ended that said nothing."""
    if code >= 0:
        return f"exit code {code}"
    names = {number.value: number.name for number in signal.Signals}
    hint = "; the machine may have run out of memory" if names.get(-code) == "SIGKILL" else ""
    return f"the system stopped it with {names.get(-code, f'signal {-code}')}{hint}"


class Client:
    """A running process. Methods are called by one thread.

    Args:
        arguments: the command, see `command`.

    Attributes:
        known: names of the arrays that the process has.

    Raises:
        ClientError: it does not start.
    """

    def __init__(self, arguments: list[str]) -> None:
        self.arguments = arguments
        self.known: set[str] = set()
        self.scene = ""
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._received: list[tuple[dict[str, Any], dict[str, np.ndarray]]] = []
        self._lock, self._news = threading.Lock(), threading.Event()
        flags = getattr(subprocess, "CREATE_NO_WINDOW", 0) if sys.platform == "win32" else 0
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        try:
            self._process = subprocess.Popen(arguments, **pipes, creationflags=flags)
        except OSError as error:
            raise ClientError(f"{arguments[0]} cannot be started: {error.strerror or error}") from None
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._keep_lines)]
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        """Whether the process can draw."""
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any], arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Send a message.

        Raises:
            ClientError: the process has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(packed(message, arrays))
            self._process.stdin.flush()
        except OSError:
            raise ClientError(self._reason()) from None

    def send_scene(self, objects: list[dict[str, Any]], environment: Any, arrays: Mapping[str, np.ndarray]) -> bool:
        """Send a scene, of its arrays those that the process does not have; whether it is another than the last."""
        message = {"do": "scene", "objects": objects, "environment": environment}
        text = json.dumps(message)
        if text == self.scene:
            return False
        self.send(message, {name: values for name, values in arrays.items() if name not in self.known})
        self.scene, self.known = text, set(arrays)
        return True

    def wait(self, seconds: float) -> list[tuple[dict[str, Any], dict[str, np.ndarray]]]:
        """The messages that came, of pictures the newest; waits for the first one for some seconds.

        Raises:
            ClientError: the process has ended, or speaks another protocol.
        """
        self._news.wait(seconds)
        self._news.clear()
        with self._lock:
            messages, self._received = self._received, []
        for message, _ in messages:
            if message["is"] == "error":
                # The scene may not have arrived.
                self.scene = ""
            if message["is"] == "ready" and message["protocol"] != PROTOCOL:
                version = message["version"]
                raise ClientError(f"renderformer {version} and this add-on do not fit together; bring both up to date")
        if not messages and not self.running:
            raise ClientError(self._reason())
        return messages

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _reason(self) -> str:
        """Why the process has ended."""
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            return "renderformer does not answer"
        self._threads[1].join(2)
        lines = [line for line in self._lines if line.startswith("error: ")] or list(self._lines)
        last = lines[-1].removeprefix("error: ") if lines else _ending(self._process.returncode)
        hint = f"; {INSTALL} for that Python" if "No module named 'renderformer" in last else ""
        return f"renderformer has ended: {last}{hint}"[:400]

    def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            while (received := read(self._process.stdout)) is not None:
                with self._lock:
                    if received[0]["is"] == "picture":
                        self._received = [old for old in self._received if old[0]["is"] != "picture"]
                    self._received.append(received)
                self._news.set()
        except (OSError, ValueError, LookupError, struct.error) as error:
            self._lines.append(f"error: its output is damaged ({error})")
        self._news.set()

    def _keep_lines(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            text = line.decode(errors="replace").strip()
            if text:
                self._lines.append(text)
