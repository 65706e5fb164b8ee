"""Which peers can run on this machine, and the installation of what they need."""

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

HERE = Path(__file__).parent
BUILD = platformdirs.user_cache_path("hongbao", appauthor=False) / "peers"
"""The output of npm and the Go compiler. It does not go into the repository."""
GO_ENVIRONMENT = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(BUILD / "go-cache")}
NGINX_MODULES = Path("/usr/lib/nginx/modules")
_NGINX_REDIS = Path("/usr/share/lua/5.1/nginx/redis.lua")
_GO_PACKAGES = ("github.com/valyala/fasthttp", "github.com/gomodule/redigo")
_APT = (
    *("wrk", "redis-server", "nginx-light", "libnginx-mod-http-lua", "lua-nginx-redis"),
    *("golang-go", "golang-github-valyala-fasthttp-dev", "golang-github-gomodule-redigo-dev"),
)
_APT_NODE = ("nodejs", "npm")
_INSTALL_S_MAX = 900


@dataclass(frozen=True, slots=True)
class Availability:
    """``missing``: one sentence why the peer cannot run, or empty if it can."""

    peer: str
    missing: str


def check(peer: str) -> Availability:
    """Check whether a peer can run. Builds it first if necessary."""
    return Availability(peer, _CHECKS[peer]())


def install() -> list[str]:
    """Install what the peers need: Debian's packages (as root, with apt-get) and npm's. Returns what failed."""
    problems = []
    if shutil.which("apt-get") and os.geteuid() == 0:
        node = () if shutil.which("npm") else _APT_NODE  # node is often already installed in another way
        wanted = [name for name in (*_APT, *node) if not _installed(name)]
        if wanted and (why := _run("apt-get", "install", "--yes", "--no-install-recommends", *wanted)):
            problems.append(f"apt-get: {why}")
    else:
        problems.append("Debian's packages need apt-get and root: install " + ", ".join(_APT))
    if shutil.which("npm"):
        if why := _npm_install():
            problems.append(f"npm: {why}")
    else:
        problems.append("npm is not on PATH")
    return problems


def go_program(folder: str) -> Path:
    """The path of a Go peer's built program. ``folder``: its source's, here."""
    return BUILD / f"{folder}-peer"


def fastify_folder() -> Path:
    """The folder of the Fastify peer's packages."""
    return BUILD / "fastify"


def _python(*modules: str) -> str:
    absent = [module for module in modules if importlib.util.find_spec(module) is None]
    return f"the Python package {absent[0]} is not installed" if absent else ""


def _fastify() -> str:
    if shutil.which("node") is None:
        return "node is not on PATH"
    if not (fastify_folder() / "node_modules/fastify").exists():
        return "npm's fastify and ioredis are not installed (--install gets them)"
    shutil.copyfile(HERE / "fastify/server.js", fastify_folder() / "server.js")
    return ""


def _nginx() -> str:
    if shutil.which("nginx") is None:
        return "nginx is not on PATH"
    if not (NGINX_MODULES / "ngx_http_lua_module.so").exists():
        return "nginx has no Lua module (Debian: libnginx-mod-http-lua)"
    return "" if _NGINX_REDIS.exists() else "there is no nginx.redis (Debian: lua-nginx-redis)"


def _go(folder: str) -> str:
    if shutil.which("go") is None:
        return "the Go compiler is not on PATH"
    for package in _GO_PACKAGES:
        if not Path(GO_ENVIRONMENT["GOPATH"], "src", package).exists():
            return f"Debian's copy of {package} is not installed"
    return _build_go(HERE / folder / "main.go", go_program(folder))


def _build_go(source: Path, program: Path) -> str:
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return ""
    BUILD.mkdir(parents=True, exist_ok=True)
    return _run("go", "build", "-o", str(program), str(source), variables=GO_ENVIRONMENT)


def _npm_install() -> str:
    fastify_folder().mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "fastify/package.json", fastify_folder() / "package.json")
    words = ("npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--omit=dev")
    return _run(*words, cwd=fastify_folder())


def _installed(package: str) -> bool:
    found = subprocess.run(["dpkg", "-s", package], capture_output=True, check=False)
    return found.returncode == 0


def _run(*words: str, cwd: Path | None = None, variables: dict[str, str] | None = None) -> str:
    """Run a command to its end. Returns why it failed, or an empty text."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", **(variables or {})}
    try:
        ended = subprocess.run(
            words, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", timeout=_INSTALL_S_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = (ended.stderr or ended.stdout).strip().splitlines()
    return "" if ended.returncode == 0 else (lines[-1] if lines else f"it ended with {ended.returncode}")


_CHECKS: dict[str, Callable[[], str]] = {
    "textbook": lambda: _python("uvicorn", "httptools", "uvloop"),
    "fastify": _fastify,
    "nginx": _nginx,
    "go": lambda: _go("go"),
    "go-group": lambda: _go("go_group"),
    "postgres": lambda: _python("uvicorn", "httptools", "uvloop", "asyncpg"),
}
PEERS = tuple(_CHECKS)
