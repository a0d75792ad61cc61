"""A Ray cluster of several nodes on this machine, which leaves no process behind."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parent
PORTS = {
    # Two nodes of one machine must not want the same ones.
    "node-manager": 0,
    "object-manager": 0,
    "min-worker": 0,
    "max-worker": 0,
    "dashboard-agent-listen": 0,
}


class RayCluster:
    """A context manager. Each node is a process group; `nodes` are their leaders, the head first.

    environment: what drivers of this cluster need beside their own; it holds the secret without
    which nobody else on the network can use the cluster, and RAY_ADDRESS.
    """

    def __init__(self, nodes: int = 2, cpus: int = 1) -> None:
        self.nodes: list[subprocess.Popen[str]] = []
        self._size = nodes
        self._cpus = cpus
        self._folder = Path(tempfile.mkdtemp(prefix="ray"))  # sockets need a short path
        paths = [str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
        self.environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }

    @property
    def address(self) -> str:
        """ "host:port" of the head."""
        return self.environment["RAY_ADDRESS"]

    def __enter__(self) -> RayCluster:
        try:
            self.add_node()
            self.environment["RAY_ADDRESS"] = (self._folder / "ray_current_cluster").read_text()
            for _ in range(self._size - 1):
                self.add_node()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add_node(self) -> None:
        """Start one more and wait until it runs."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
        if self.nodes:
            command += [f"--address={self.address}"]
        else:
            command += ["--head", "--port=0", f"--temp-dir={self._folder}"]
            command += ["--include-dashboard=false"]
        command += [f"--{name}-port={port}" for name, port in PORTS.items()]
        command += [f"--num-cpus={self._cpus}", "--num-gpus=0", "--object-store-memory=80000000"]
        node = subprocess.Popen(
            command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.nodes.append(node)
        assert node.stdout is not None
        said = []
        for line in node.stdout:
            said.append(line)
            if "block forever" in line:  # the last that it says
                return
        raise RuntimeError("a Ray node does not start: " + "".join(said))

    def kill_node(self, index: int) -> None:
        """End a node at once, as when its machine loses power."""
        _end(self.nodes[index], signal.SIGKILL)

    def close(self) -> None:
        for node in reversed(self.nodes):
            with suppress(subprocess.TimeoutExpired):
                node.terminate()  # which ends the node's processes in good order
                node.wait(10)
            _end(node, signal.SIGKILL)
            if node.stdout is not None:
                node.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _end(node: subprocess.Popen[str], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(node.pid, number)
    node.wait()
