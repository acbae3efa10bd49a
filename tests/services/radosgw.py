"""Ceph's radosgw over a cluster of one node, which lives in memory: an S3 server of an older dialect.

It is installed nowhere by default: `apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from typing import Any

from s3servers import END_SECONDS, HOST, MissingService, S3Server

CLUSTER_SECONDS = 90.0
"""For each step. From nothing to a gateway that answers takes 12 s, and more beside other work."""

_PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "monmaptool")
_PACKAGES = "radosgw ceph-mon ceph-osd ceph-common"
_POLL_SECONDS = 0.1

# One copy of everything, few placement groups, nobody who asks for keys (so no encryption, which the gateway wants of
# monitors by default); what is removed is really gone soon.
_CONFIG = """
[global]
fsid = {fsid}
mon host = [v2:{host}:{port}/0]
mon initial members = a
auth cluster required = none
auth service required = none
auth client required = none
public addr = {host}
ms bind ipv6 = false
ms mon client mode = crc
run dir = {folder}
admin socket = {folder}/$name.asok
log file = {folder}/$name.log
mon data = {folder}/mon
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
mon allow pool size one = true
rgw frontends = beast endpoint={host}:{gateway_port}
rgw thread pool size = 64
rgw dns name =
rgw gc obj min wait = 5
rgw gc processor period = 5
rgw gc processor max time = 5
"""


class RadosGW(S3Server):
    """`kill()` and `start()` are of the gateway; the cluster behind it, with all that it keeps, ends with `stop()`."""

    name = "radosgw"

    def __init__(self) -> None:
        self._cluster: list[subprocess.Popen[bytes]] = []
        super().__init__()

    def start(self) -> None:
        if not self._cluster:
            self._start_cluster()
        super().start()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.resume()
            self.kill()
        for daemon in reversed(self._cluster):
            daemon.kill()  # all that it has goes anyway
            daemon.wait(END_SECONDS)
        self._cluster = []
        super().stop()

    def _find(self) -> str:
        for program in _PROGRAMS:
            if shutil.which(program) is None:
                raise MissingService(f"not installed: {program}; apt-get install --no-install-recommends {_PACKAGES}")
        return _PROGRAMS[0]

    def _command(self) -> list[str]:
        return [self._program, "-c", str(self.folder / "ceph.conf"), "-n", "client.rgw", "-f"]

    def _await_answer(self, client: Any) -> None:
        self._wait_for(lambda: self._answers(client), "the gateway answers")

    # The cluster.

    def _start_cluster(self) -> None:
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        with socket.socket() as holder:
            holder.bind((HOST, 0))
            port = holder.getsockname()[1]
        config = _CONFIG.format(fsid=fsid, host=HOST, port=port, folder=self.folder, gateway_port=self.port)
        (self.folder / "ceph.conf").write_text(config)
        for name in ("mon", "osd"):
            (self.folder / name).mkdir()
        monmap = str(self.folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:{HOST}:{port}/0]", monmap)
        self._run("ceph-mon", *self._conf, "--mkfs", "-i", "a", "--monmap", monmap)
        self._launch("ceph-mon", "-i", "a")
        self._ask("osd", "new", osd)
        self._run("ceph-osd", *self._conf, "--mkfs", "-i", "0", "--osd-uuid", osd)
        self._launch("ceph-osd", "-i", "0")
        self._wait_for(lambda: '"num_up_osds":1' in self._ask("osd", "stat", "--format=json"), "its disk is up")
        keys = ("--access-key", self.access_key, "--secret-key", self.secret_key)
        self._run("radosgw-admin", *self._conf, "user", "create", "--uid=tests", "--display-name=tests", *keys)

    @property
    def _conf(self) -> tuple[str, str]:
        return "-c", str(self.folder / "ceph.conf")

    def _ask(self, *words: str) -> str:
        return self._run("ceph", *self._conf, "--connect-timeout", str(int(CLUSTER_SECONDS)), *words)

    def _run(self, *command: str) -> str:
        ran = subprocess.run(
            command,
            cwd=self.folder,
            env=self._plain_environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CLUSTER_SECONDS,
            check=False,
        )
        assert ran.returncode == 0, f"{' '.join(command)}: {ran.stdout[-2000:]} {ran.stderr[-2000:]}"
        return ran.stdout

    def _launch(self, *command: str) -> None:
        with (self.folder / "log").open("ab") as log:
            daemon = subprocess.Popen(
                [command[0], *self._conf, *command[1:], "-f"],
                cwd=self.folder,
                env=self._plain_environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._cluster.append(daemon)

    @property
    def _plain_environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.folder)}

    def _wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + CLUSTER_SECONDS
        while not is_so():
            assert all(each.poll() is None for each in self._cluster), f"the cluster ended: {self.log[-4000:]}"
            assert self._process is None or self._process.poll() is None, f"the gateway ended: {self.log[-4000:]}"
            assert time.monotonic() < deadline, f"it did not come about that {what}: {self.log[-4000:]}"
            time.sleep(_POLL_SECONDS)  # nothing tells
