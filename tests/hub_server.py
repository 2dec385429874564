"""A Hub on loopback, for tests alone: what huggingface_hub's client asks of the real one, in memory.

Large files go through LFS, as they do on the Hub.  What the answers hold is what the client
reads; that they are the public Hub's in every respect is not claimed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_a_token_for_tests_alone"
# What proves a workflow's identity, and what a job of GitHub's asks for it with.
IDENTITY = "an.identity.of_a_workflow"
REQUEST_TOKEN = "a_token_of_a_job"
# Of this size and more a file is large.
LARGE = 1 << 16


@dataclass
class Repository:
    """Files of each commit, and what each branch points at.

    Who may not see the files of a gated one sees their names; each pull request has its author, its status
    and its description.
    """

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    pull_requests: list[str] = field(default_factory=list)
    authors: dict[int, str] = field(default_factory=dict)
    statuses: dict[int, str] = field(default_factory=dict)
    descriptions: dict[int, str] = field(default_factory=dict)

    def merge(self, number: int) -> None:
        """Puts what a pull request has onto the main branch."""
        files = {**self.commits[self.refs["main"]], **self.commits[self.refs[f"refs/pr/{number}"]]}
        self.commit("main", files, f"Merge {number}")
        self.statuses[number] = "merged"

    def commit(self, branch: str, files: dict[str, bytes], message: str = "") -> str:
        """Makes ``files`` all that ``branch`` has; returns the commit."""
        content = json.dumps([message, len(self.commits), sorted((n, _sha256(b)) for n, b in files.items())])
        oid = hashlib.sha1(content.encode()).hexdigest()
        self.commits[oid] = dict(files)
        self.refs[branch] = oid
        self.messages.append(message)
        return oid

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit's own name stands for."""
        oid = self.refs.get(revision, revision)
        return oid if oid in self.commits else None


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: by name, ``"user/name"``.
        stored: bytes of large files, by their SHA-256.
        xet: address of a store of large files that is the client's own business; None for LFS.
        xet_hashes: what the store calls a file, by its SHA-256.
        trusted: repositories, each of which trusts the workflow of ``IDENTITY``.
        issued: repository for which a token was exchanged for an identity, by the token.
        asked: method and path of every request, in their order.
        fault: called with each request before it is answered; true where it has answered.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.xet: str | None = None
        self.xet_hashes: dict[str, str] = {}
        self.trusted: set[str] = set()
        self.issued: dict[str, str] = {}
        self.asked: list[tuple[str, str]] = []
        self.fault: Callable[[Any], bool] = lambda _: False

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, folder: object, token: str | None = None) -> dict[str, str]:
        """Variables by which the real client talks to this Hub, with a cache of its own."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(folder),
            "HF_HUB_DISABLE_XET": "0" if self.xet else "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **({} if token is None else {"HF_TOKEN": token}),
        }

    def handle_error(self, *_: object) -> None:
        """A client that went away is a part of some tests."""


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A server that answers until the block ends."""
    with Hub() as hub:
        # It looks this often, in seconds, whether it is to end.
        thread = threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _RefusalError(Exception):
    def __init__(self, status: int, code: str = "", text: str = "") -> None:
        super().__init__(text or code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        """Nothing: a test reads ``Hub.asked``."""

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path))
        if self.server.fault(self):
            return
        path = urlsplit(self.path).path
        try:
            self.require_within(path)
            for method, pattern, answer in _ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in method.split():
                    answer(self, *map(unquote, match.groups()))
                    return
            raise _RefusalError(404, "EntryNotFound", f"There is no {self.command} {path}.")
        except _RefusalError as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused)}
            self.send({"error": str(refused)}, refused.status, headers)

    def send(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answers with JSON, or with bytes as they are."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        given = {"Content-Length": str(len(data)), **(headers or {})}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    @property
    def signed_in(self) -> bool:
        return self.token in (TOKEN, *self.server.issued)

    def require_within(self, path: str) -> None:
        """Refuses a token that was exchanged for an identity wherever it is not good."""
        name = self.server.issued.get(self.token)
        open_to_all = r"/api/validate-yaml|/lfs/.*|/stored/.*"
        if name is not None and not re.fullmatch(rf"(/api/models)?/{name}(\.git)?(/.*)?|{open_to_all}", path):
            raise _RefusalError(403, "", f"This token is good for {name} alone.")

    def identity(self) -> None:
        """Answers as GitHub does to a job that may ask for its identity."""
        if self.token != REQUEST_TOKEN:
            raise _RefusalError(401, "", "This job has no permission id-token: write.")
        audience = parse_qs(urlsplit(self.path).query)["audience"]
        self.send({"value": IDENTITY if audience == [self.server.url] else "an identity for somebody else"})

    def exchange(self) -> None:
        """Gives a token for an identity: RFC 8693, in JSON."""
        asked, kinds = self.json(), "urn:ietf:params:oauth:"
        if asked["grant_type"] != f"{kinds}grant-type:token-exchange":
            raise _RefusalError(400, "", "unsupported_grant_type")
        known = asked["subject_token_type"] == f"{kinds}token-type:id_token"
        if not (known and asked["subject_token"] == IDENTITY and asked["resource"] in self.server.trusted):
            raise _RefusalError(403, "", f"No trusted publisher matches {asked['subject_token']}.")
        token = f"hf_jwt_{len(self.server.issued)}"
        self.server.issued[token] = asked["resource"]
        self.send({"access_token": token, "token_type": "bearer", "expires_in": 3600})

    def require_token(self) -> None:
        if not self.signed_in:
            raise _RefusalError(401, "", "Invalid username or password.")

    def repository(self, name: str) -> Repository:
        found = self.server.repositories.get(name)
        if found is None or (found.private and not self.signed_in):
            # As the Hub: what may not be seen is not there, and 401 to whom it does not know.
            raise _RefusalError(404 if self.signed_in else 401, "RepoNotFound", "Repository not found")
        return found

    def files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self.repository(name)
        oid = repository.resolve(revision)
        if oid is None:
            raise _RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid, repository.commits[oid]

    def whoami(self) -> None:
        self.require_token()
        self.send({"name": "user", "type": "user", "orgs": [], "auth": {}})

    def create(self) -> None:
        self.require_token()
        asked = self.json()
        name = f"{asked.get('organization') or 'user'}/{asked['name']}"
        url = {"url": f"{self.server.url}/{name}", "id": name}
        if name in self.server.repositories:
            self.send({**url, "error": "You already created this model repo"}, 409)
            return
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        repository = self.server.repositories[name] = Repository(private)
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self.send(url)

    def validate(self) -> None:
        self.send({"errors": [], "warnings": []})

    def info(self, name: str, revision: str = "main") -> None:
        oid, files = self.files(name, revision)
        siblings = [
            {
                "rfilename": path,
                "size": len(data),
                "blobId": _git_sha1(data),
                # Here the digest goes by another name than in a tree.
                "lfs": {"sha256": _sha256(data), "size": len(data), "pointerSize": 134}
                if _is_large(path, data)
                else None,
            }
            for path, data in files.items()
        ]
        self.send(
            {
                "id": name,
                "sha": oid,
                "private": self.repository(name).private,
                "siblings": siblings,
                "tags": [],
                "downloads": 0,
            }
        )

    def tree(self, name: str, revision: str) -> None:
        _, files = self.files(name, revision)
        self.send([_entry(path, data) for path, data in files.items()])

    def paths(self, name: str, revision: str) -> None:
        _, files = self.files(name, revision)
        asked = parse_qs(self.body.decode()).get("paths", [])
        self.send([_entry(path, files[path]) for path in asked if path in files])

    def refs(self, name: str) -> None:
        refs = self.repository(name).refs
        branches = [
            {"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": oid} for ref, oid in refs.items()
        ]
        self.send({"branches": branches, "converts": [], "tags": []})

    def preupload(self, name: str, revision: str) -> None:
        self.require_token()
        _, files = self.files(name, revision)
        answers = []
        for file in self.json()["files"]:
            large = file["size"] >= LARGE or file["path"].endswith(".safetensors")
            held = files.get(file["path"])
            oid = None if held is None else (_sha256 if large else _git_sha1)(held)
            answers.append(
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if large else "regular",
                    "shouldIgnore": False,
                    "oid": oid,
                }
            )
        self.send({"files": answers})

    def xet_token(self, name: str, kind: str, _: str) -> None:
        self.repository(name)
        if kind == "write":
            self.require_token()
        if self.server.xet is None:
            raise _RefusalError(404)
        expires = int(time.time()) + 3600
        headers = {"Cas-Url": self.server.xet, "Access-Token": "a", "Token-Expiration": str(expires)}
        content = {"casUrl": self.server.xet, "accessToken": "a", "exp": expires}
        self.send(content, headers={f"X-Xet-{name}": text for name, text in headers.items()})

    def batch(self, name: str) -> None:
        self.require_token()
        self.repository(name)
        objects = []
        for one in self.json()["objects"]:
            href = f"{self.server.url}/lfs/{one['oid']}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            known = one["oid"] in self.server.stored
            objects.append({**one, **({} if known else {"actions": actions})})
        kind = {"Content-Type": "application/vnd.git-lfs+json"}
        self.send({"transfer": "basic", "objects": objects}, headers=kind)

    def store(self, oid: str) -> None:
        if _sha256(self.body) != oid:
            raise _RefusalError(400, "", "The digest of what was sent is another one.")
        self.server.stored[oid] = self.body
        self.send({})

    def verify(self, oid: str) -> None:
        stored = self.server.stored.get(oid)
        if stored is None or len(stored) != self.json()["size"]:
            raise _RefusalError(422, "", "This object is not stored, or of another size.")
        self.send({})

    def commit(self, name: str, revision: str) -> None:
        self.require_token()
        parent, files = self.files(name, revision)
        proposed = parse_qs(urlsplit(self.path).query).get("create_pr") == ["1"]
        if not (proposed or name.startswith("user/") or revision.startswith("refs/pr/")):
            raise _RefusalError(403, "", "You have no right to write to this repository.")
        lines = [json.loads(line) for line in self.body.splitlines() if line]
        header = lines[0]["value"]
        if header.get("parentCommit") not in (None, parent):
            raise _RefusalError(412, "", "A commit has happened since. Please refresh and try again.")
        changed = dict(files)
        for line in lines[1:]:
            _apply(line["key"], line["value"], changed, self.server.stored)
        repository, message = self.repository(name), header.get("summary", "")
        answer = {}
        if proposed:
            repository.pull_requests.append(message)
            number = len(repository.pull_requests)
            repository.descriptions[number] = header.get("description", "")
            revision = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.server.url}/{name}/discussions/{number}"
        oid = repository.commit(revision, changed, message)
        self.send({"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "commitOid": oid, **answer})

    def discussions(self, name: str) -> None:
        numbers = range(1, len(self.repository(name).pull_requests) + 1)
        found = [self.discussion_of(name, number) for number in numbers]
        self.send({"discussions": found, "count": len(found), "start": 0})

    def discussion_of(self, name: str, number: int) -> dict[str, Any]:
        repository = self.repository(name)
        return {
            "num": number,
            "title": repository.pull_requests[number - 1],
            "status": repository.statuses.get(number, "open"),
            "author": {"name": repository.authors.get(number, "user")},
            "isPullRequest": True,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "repo": {"name": name, "type": "model"},
        }

    def discussion(self, name: str, number: str) -> None:
        event = self.comment(self.repository(name), int(number))
        whole = {"events": [event], "changes": {"base": "refs/heads/main"}, "filesWithConflicts": []}
        self.send({**self.discussion_of(name, int(number)), **whole})

    def comment(self, repository: Repository, number: int) -> dict[str, Any]:
        content = {"raw": repository.descriptions.get(number, "")}
        return {
            "id": f"c{number}",
            "type": "comment",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "author": {"name": repository.authors.get(number, "user")},
            "data": {"edited": False, "hidden": False, "latest": content},
        }

    def edit(self, name: str, number: str) -> None:
        self.require_token()
        repository = self.repository(name)
        repository.descriptions[int(number)] = self.json()["content"]
        self.send({"updatedComment": self.comment(repository, int(number))})

    def branch(self, name: str, branch: str) -> None:
        self.require_token()
        repository = self.repository(name)
        repository.refs[branch] = repository.refs["main"]
        self.send({})

    def resolve(self, name: str, revision: str, path: str) -> None:
        oid, files = self.files(name, revision)
        if self.repository(name).gated:
            raise _RefusalError(403, "GatedRepo", f"Access to model {name} is restricted.")
        if path not in files:
            raise _RefusalError(404, "EntryNotFound", "Entry not found")
        data = files[path]
        headers = {"X-Repo-Commit": oid, "ETag": f'"{_git_sha1(data)}"'}
        if not _is_large(path, data):
            self.send(data, headers=headers)
            return
        digest = _sha256(data)
        self.server.stored[digest] = data
        # Another host's name, for the client follows a HEAD within one host.
        linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data)), "ETag": f'"{digest}"'}
        if digest in self.server.xet_hashes:
            headers["X-Xet-Hash"] = self.server.xet_hashes[digest]
            headers["X-Xet-Refresh-Route"] = f"{self.server.url}/api/models/{name}/xet-read-token/{oid}"
        where = f"http://localhost:{self.server.server_port}/stored/{digest}"
        self.send(b"", 302, {**headers, **linked, "Location": where})

    def stored(self, oid: str) -> None:
        data = self.server.stored[oid]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked is None:
            self.send(data, headers={"ETag": f'"{oid}"'})
            return
        start = int(asked[1])
        span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self.send(data[start:], 206, span)


def _is_large(path: str, data: bytes) -> bool:
    return path.endswith(".safetensors") or len(data) >= LARGE


def _entry(path: str, data: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": path, "oid": _git_sha1(data), "size": len(data)}
    if _is_large(path, data):
        entry["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 134}
    return entry


def _apply(key: str, value: dict[str, Any], files: dict[str, bytes], stored: dict[str, bytes]) -> None:
    if key == "file":
        files[value["path"]] = base64.b64decode(value["content"])
    elif key == "lfsFile":
        if value["oid"] not in stored:
            raise _RefusalError(400, "", f"The object of {value['path']} was not uploaded.")
        files[value["path"]] = stored[value["oid"]]
    elif key == "deletedFile":
        del files[value["path"]]
    else:
        raise _RefusalError(400, "", f"Unknown operation {key}.")


_NAME = r"([^/]+/[^/]+)"
_API = rf"/api/models/{_NAME}"
_ROUTES: tuple[tuple[str, str, Callable[..., None]], ...] = (
    ("GET", r"/identity", _Handler.identity),
    ("POST", r"/oauth/token", _Handler.exchange),
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create),
    ("POST", r"/api/validate-yaml", _Handler.validate),
    ("GET", _API, _Handler.info),
    ("GET", rf"{_API}/revision/([^/]+)", _Handler.info),
    ("GET", rf"{_API}/tree/([^/]+)(?:/.*)?", _Handler.tree),
    ("GET", rf"{_API}/refs", _Handler.refs),
    ("GET", rf"{_API}/discussions", _Handler.discussions),
    ("GET", rf"{_API}/discussions/(\d+)", _Handler.discussion),
    ("POST", rf"{_API}/discussions/(\d+)/comment/\w+/edit", _Handler.edit),
    ("POST", rf"{_API}/branch/([^/]+)", _Handler.branch),
    ("POST", rf"{_API}/paths-info/([^/]+)", _Handler.paths),
    ("POST", rf"{_API}/preupload/([^/]+)", _Handler.preupload),
    ("GET", rf"{_API}/xet-(read|write)-token/([^/]+)", _Handler.xet_token),
    ("POST", rf"{_API}/commit/([^/]+)", _Handler.commit),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", r"/lfs/([0-9a-f]{64})", _Handler.store),
    ("POST", r"/lfs/([0-9a-f]{64})/verify", _Handler.verify),
    ("GET HEAD", r"/stored/([0-9a-f]{64})", _Handler.stored),
    ("GET HEAD", rf"/{_NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
)
