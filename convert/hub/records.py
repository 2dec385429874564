"""The records of a push: what it is given, finds and returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..columns import rows_as_text, wrapped
from ..folder.signature import Signer
from ..shown import Shown


@dataclass(frozen=True)
class RemoteState:
    """The state of the repository before a push.

    Attributes:
        commit: the branch's head; None where there is no repository.
        branch: whether the branch is there.
        files: digest of each file by name, ``("sha256", HEX)`` of a large one and ``("git", HEX)`` of others.
        sizes: length of each in bytes, where it was asked for.
    """

    commit: str | None = None
    branch: bool = False
    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    sizes: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Destination:
    """A repository on the Hugging Face Hub, and how a folder gets there.

    Attributes:
        repo_id: such as ``"user/name"``.
        revision: branch; it is made where it is missing.
        message: of the commit; empty for one that is made of what is proposed.
        license: one of the Hub's identifiers; None for the card's own.
        private: whether the repository must be private.
        create_pr: open a pull request instead of a commit to the branch.
        token: what signs in; None for the environment's, or the login's.
        signer: who signs what is sent; None for nobody.
    """

    repo_id: str
    revision: str
    message: str
    license: str | None = None
    private: bool = False
    create_pr: bool = False
    token: str | None = field(default=None, repr=False)
    signer: Signer | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Sent:
    """A file of a repository.

    Attributes:
        name: its name in the repository.
        size: length in bytes; None where it is deleted.
        sha256: digest of its bytes, hexadecimal; None where it is deleted.
        action: ``"add"``, ``"change"``, ``"delete"`` or ``"keep"``.
    """

    name: str
    size: int | None
    sha256: str | None
    action: str


@dataclass(frozen=True, repr=False)
class Published(Shown):
    """The result of a push: what was sent, or would be sent.

    Attributes:
        repo_id: such as ``"user/name"``.
        revision: branch that it was sent to, such as ``"main"`` or ``"refs/pr/1"``.
        commit: the commit that was fetched back and compared; None where nothing was sent yet.
        url: where it is to be seen; None likewise.
        message: of the commit.
        files: the conversion's files in the repository, as they are after it; others are left alone.
        card: text of README.md.
        remarks: what the user should know.
        description: of the pull request that adds a conversion; empty for others.
    """

    repo_id: str
    revision: str
    commit: str | None
    url: str | None
    message: str
    files: tuple[Sent, ...]
    card: str
    remarks: tuple[str, ...] = ()
    description: str = ""

    def __str__(self) -> str:
        return published_as_text(self)

    def _shown(self) -> dict[str, object]:
        """Returns where it is, or would be, and what became of each file."""
        return {
            "repository": self.repo_id,
            "revision": self.revision,
            "commit": self.commit or "none: nothing was sent yet",
            "url": self.url,
            "files": ", ".join(f"{file.action} {file.name}" for file in self.files),
        }

    @property
    def changed(self) -> bool:
        """Whether anything was to be sent."""
        return any(file.action != "keep" for file in self.files)


def published_as_text(published: Published) -> str:
    """A few lines for the terminal; of what would be sent, every file and the card."""
    where = f"{published.repo_id}, {published.revision}"
    if published.commit is None:
        lines = rows_as_text((file.action, _sent(file)) for file in published.files)
        would = "would be sent in one commit" if published.changed else "nothing would be sent"
        head = [*wrapped(f"{where}: {would}"), *rows_as_text([("message", published.message)])]
        shown = published.card or published.description
        card = (f"  {line}".rstrip() for line in shown.splitlines())
        return "\n".join([*head, *lines, "", *card])
    rows = {
        "commit": published.commit,
        "url": published.url or "",
        **{
            action: ", ".join(file.name for file in published.files if file.action == action)
            for action in ("add", "change", "delete", "keep")
        },
        "fetched": "back and compared: not a byte differs",
    }
    status = "published" if published.changed else "is there already"
    return "\n".join([*wrapped(f"{where}: {status}"), *rows_as_text(rows.items())])


def _sent(file: Sent) -> str:
    return file.name if file.size is None else f"{file.name:<24}{file.size:>12,} bytes  sha256 {file.sha256}"
