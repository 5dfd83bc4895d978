"""A stand-in for a model hub on the loopback: as much of its HTTP interface as clients use here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef0123456{:x}"


class Hub:
    """Repositories and what happened to them.

    Attributes:
        files: a repository's files by name.
        revisions: branches and tags; all of them show the same files.
        private: repositories that were made private.
        requests: method and path of every request.
        alter: what a download gets in place of a file's bytes, by the file's name.
        status: answered to every request of the API, if it is set.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.revisions = {"main", "v1"}
        self.private: set[str] = set()
        self.requests: list[str] = []
        self.alter: dict[str, bytes] = {}
        self.status: int | None = None
        self.endpoint = ""
        self.objects: dict[str, bytes] = {}
        self.commits = 0

    @property
    def commit(self) -> str:
        return COMMIT.format(self.commits)


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, content: Any = None, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = {"Content-Length": str(len(body)), **headers}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _missing(self, what: str, status: int = 404) -> None:
        self._answer({"error": what}, status, X_Error_Code=what, X_Error_Message=what)

    def _handle(self) -> None:
        hub, path = self.hub, unquote(urlparse(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append(f"{self.command} {path}")
        if hub.status is not None:
            return self._answer({"error": "no"}, hub.status)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/(.+/.+)\.git/info/lfs/objects/batch", path):
            return self._lfs(json.loads(body))
        if found := re.fullmatch(r"/objects/(\w+)", path):
            hub.objects[found[1]] = body
            return self._answer({})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/([^/]+))?", path):
            return self._api(*found.groups(), body)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(*found.groups())
        return self._answer({"error": path}, 500)

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815

    def _create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted['organization']}/{wanted['name']}"
        there = name in self.hub.files
        self.hub.files.setdefault(name, {})
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.hub.private.add(name)
        content = {"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name}
        self._answer(content, 409 if there else 200)

    def _lfs(self, wanted: dict[str, Any]) -> None:
        href = f"{self.hub.endpoint}/objects/"
        objects = [
            {**item, "actions": {"upload": {"href": href + item["oid"]}}}
            for item in wanted["objects"]
        ]
        self._answer({"transfer": "basic", "objects": objects})

    def _api(self, name: str, what: str | None, revision: str | None, body: bytes) -> None:
        hub = self.hub
        if name not in hub.files:
            return self._missing("RepoNotFound")
        if revision is not None and revision not in hub.revisions | {hub.commit}:
            return self._missing("RevisionNotFound")
        files = hub.files[name]
        if what == "preupload":
            asked = [item["path"] for item in json.loads(body)["files"]]
            modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in asked}
            told = [{"path": p, "uploadMode": modes[p], "shouldIgnore": False} for p in asked]
            return self._answer({"files": told})
        if what == "commit":
            self._commit(files, body)
            url = f"{hub.endpoint}/{name}/commit/{hub.commit}"
            return self._answer({"success": True, "commitOid": hub.commit, "commitUrl": url})
        if what == "tree":
            tree = [
                {"type": "file", "path": path, "size": len(content), "oid": _digest(content)[:40]}
                for path, content in files.items()
            ]
            return self._answer(tree)
        siblings = [{"rfilename": path} for path in files]
        return self._answer({"id": name, "sha": hub.commit, "siblings": siblings, "tags": []})

    def _commit(self, files: dict[str, bytes], body: bytes) -> None:
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        self.hub.commits += 1

    def _file(self, name: str, revision: str, path: str) -> None:
        hub = self.hub
        if name not in hub.files:
            return self._missing("RepoNotFound")
        if revision not in hub.revisions | {hub.commit}:
            return self._missing("RevisionNotFound")
        if path not in hub.files[name]:
            return self._missing("EntryNotFound")
        content = hub.alter.get(path, hub.files[name][path])
        return self._answer(content, ETag=f'"{_digest(content)}"', X_Repo_Commit=hub.commit)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
