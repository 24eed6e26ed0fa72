"""A small Hugging Face hub on 127.0.0.1: what `datasets` asks of the real one, answered from files
in memory.

It serves revisions, trees, paths-info and files (with ranges) of data set repositories, under their
branch and under their commit hash. What it leaves out: authentication, Xet, LFS, uploads, the data
set viewer.
"""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Repos = Mapping[tuple[str, str], Mapping[str, bytes]]  # (id, branch) -> path -> content


class LoopbackHub(ThreadingHTTPServer):
    """`endpoint` is what HF_ENDPOINT must be; `requests` logs what was asked."""

    daemon_threads = True

    def __init__(self, repos: Repos) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.repos: dict[tuple[str, str], tuple[str, Mapping[str, bytes]]] = {}
        for (repo, branch), files in repos.items():
            sha = hashlib.sha1(f"{repo}@{branch}".encode()).hexdigest()
            self.repos[repo, branch] = self.repos[repo, sha] = sha, files

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(repos: Repos) -> Iterator[LoopbackHub]:
    """Serve `repos` until the block ends."""
    with LoopbackHub(repos) as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LoopbackHub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes = b"") -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        parts = [
            urllib.parse.unquote(part) for part in self.path.partition("?")[0].strip("/").split("/")
        ]
        match parts:
            case ["api", "datasets", owner, name, *rest]:
                self._api(f"{owner}/{name}", rest, body)
            case ["datasets", owner, name, "resolve", branch, *path]:
                self._file(f"{owner}/{name}", branch, "/".join(path))
            case _:
                self._refuse("RepoNotFound")

    def _api(self, repo: str, rest: list[str], body: bytes) -> None:
        kind, branch, path = (
            (rest or ["revision"])[0],
            (rest[1:] or ["main"])[0],
            "/".join(rest[2:]),
        )
        found = self.server.repos.get((repo, branch))
        if found is None:
            known = any(r == repo for r, _ in self.server.repos)
            return self._refuse("RevisionNotFound" if known else "RepoNotFound")
        sha, files = found
        entries = _entries(files)
        if kind == "revision":
            siblings = [{"rfilename": file} for file in files]
            return self._json(
                {"id": repo, "sha": sha, "siblings": siblings, "private": False, "tags": []}
            )
        if kind == "paths-info":
            asked = {path.rstrip("/") for path in json.loads(body)["paths"]}
            return self._json([entry for entry in entries if entry["path"] in asked])
        inside = [entry for entry in entries if not path or entry["path"].startswith(f"{path}/")]
        if path and not inside:
            return self._refuse("EntryNotFound")
        if "recursive=true" not in self.path.lower():
            depth = path.count("/") + 1 if path else 0
            inside = [entry for entry in inside if entry["path"].count("/") == depth]
        return self._json(inside)

    def _file(self, repo: str, branch: str, path: str) -> None:
        found = self.server.repos.get((repo, branch))
        if found is None:
            known = any(r == repo for r, _ in self.server.repos)
            return self._refuse("RevisionNotFound" if known else "RepoNotFound")
        sha, files = found
        if path not in files:
            return self._refuse("EntryNotFound", sha)
        content, status = files[path], 200
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": sha,
            "Accept-Ranges": "bytes",
        }
        if asked := self.headers.get("Range"):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            last = min(int(end or len(content) - 1), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{last}/{len(content)}"
            content, status = content[int(start) : last + 1], 206
        return self._send(status, content, headers)

    def _refuse(self, code: str, sha: str | None = None) -> None:
        self._send(404, b"{}", {"X-Error-Code": code} | ({"X-Repo-Commit": sha} if sha else {}))

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _entries(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return the files and the folders above them as the hub lists them."""
    folders = {
        "/".join(file.split("/")[:n]) for file in files for n in range(1, file.count("/") + 1)
    }
    listed = [
        {"type": "directory", "oid": hashlib.sha1(f.encode()).hexdigest(), "size": 0, "path": f}
        for f in folders
    ]
    for path, content in files.items():
        listed.append(
            {
                "type": "file",
                "oid": hashlib.sha1(content).hexdigest(),
                "size": len(content),
                "path": path,
            }
        )
    return sorted(listed, key=lambda entry: str(entry["path"]))
