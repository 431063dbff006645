"""The servers that are measured and those that stand behind them; each pinned to a processor of its own kind."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import pinned

ROOT = Path(__file__).resolve().parents[1]
CONTRACT = ROOT / "examples" / "contract.toml"
NCHAN = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
PATH = os.environ.get("PATH", "") + ":/usr/sbin"
"""Where Debian puts nginx, which is not on everybody's path."""

KEYS = {"CHANGEOVER_KEYS": f"bench:{base64.b64encode(os.urandom(32)).decode()}"}

NGINX = """
{modules}
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log crit;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    keepalive_requests 100000000;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
    uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    {body}
}}
"""

FAST_LEGACY = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location /trpc/session.getById {{
            default_type application/json;
            return 200 '{{"result":{{"data":{{"id":"session-1","title":"The title","model":"gpt-5"}}}}}}';
        }}
        location /trpc/session.getRecent {{
            default_type application/json; return 200 '{{"result":{{"data":{{"sessions":[]}}}}}}';
        }}
        location / {{ default_type application/json; return 200 '{{"result":{{}}}}'; }}
    }}
"""

PROXY = """
    upstream legacy {{ server 127.0.0.1:{legacy}; keepalive 256; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://legacy; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
"""

MIRROR = """
    upstream legacy {{ server 127.0.0.1:{legacy}; keepalive 256; keepalive_requests 100000000; }}
    upstream sink {{ server 127.0.0.1:{sink}; keepalive 256; keepalive_requests 100000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            mirror /mirror; mirror_request_body on;
            proxy_pass http://legacy; proxy_http_version 1.1; proxy_set_header Connection "";
        }}
        location = /mirror {{
            internal;
            proxy_pass http://sink$request_uri; proxy_http_version 1.1; proxy_set_header Connection "";
        }}
    }}
"""


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@asynccontextmanager
async def nginx(
    body: str, folder: Path, *, cpu: Sequence[int], modules: str = "", **values: object
) -> AsyncIterator[int]:
    """Run an nginx with one worker; yields its port."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    text = NGINX.format(dir=folder, modules=modules, body=body.format(port=port, **values))
    file = folder / "nginx.conf"
    file.write_text(text)
    command = [
        *pinned(cpu),
        shutil.which("nginx", path=PATH) or "nginx",
        "-p",
        str(folder),
        "-c",
        str(file),
        "-g",
        "daemon off;",
    ]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    try:
        await _listening(port)
        yield port
    finally:
        await stopped(process)


@dataclass(frozen=True, slots=True)
class Running:
    """A proxy that runs: its data port and its process."""

    port: int
    pid: int

    def memory(self, field: str) -> int:
        """Return a figure of its memory in bytes: `VmRSS` is what it holds now, `VmHWM` the most it ever held."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith(field + ":"))
        return int(line.split()[1]) * 1024


@asynccontextmanager
async def changeover(
    legacy: int,
    folder: Path,
    *,
    cpu: Sequence[int],
    stage: str = "dualwrite",
    program: Sequence[str] = ("-m", "changeover"),
    **environment: str,
) -> AsyncIterator[Running]:
    """Run a proxy with the full example contract and a log of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [*pinned(cpu), sys.executable, *program, "serve", "--legacy", f"http://127.0.0.1:{legacy}"]
    command += ["--contract", str(CONTRACT), "--database", f"sqlite:///{folder / 'log.db'}", "--port", "0"]
    command += ["--admin-port", "0", "--initial-stage", stage]
    with (folder / "errors.log").open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=PIPE, stderr=errors, cwd=ROOT, env=os.environ | KEYS | environment
        )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        if not line:
            raise RuntimeError(f"the proxy did not start:\n{(folder / 'errors.log').read_text()}")
        ready = json.loads(line)
        yield Running(int(ready["url"].rpartition(":")[2]), ready["pid"])
    finally:
        await stopped(process)


@asynccontextmanager
async def example_legacy(folder: Path, *, cpu: Sequence[int]) -> AsyncIterator[int]:
    """Run the real example server; yields its port."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [*pinned(cpu), "node", str(ROOT / "examples/legacy/src/main.js"), "--data", str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=os.environ | {"NODE_ENV": "production"})
    try:
        assert process.stdout is not None
        yield int(json.loads(await process.stdout.readline())["port"])
    finally:
        await stopped(process)


def nginx_available() -> bool:
    """Tell whether nginx is installed."""
    return shutil.which("nginx", path=PATH) is not None


def nchan_available() -> bool:
    """Tell whether nginx's nchan module is installed."""
    return nginx_available() and NCHAN.exists()


def node_modules_there() -> bool:
    """Tell whether the example legacy can be started."""
    return (ROOT / "examples/legacy/node_modules").is_dir()


async def _listening(port: int) -> None:
    for _ in range(500):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    raise RuntimeError(f"nothing listens on {port}")


async def stopped(process: Process) -> None:
    """End a process, by force if it takes too long."""
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()
