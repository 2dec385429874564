"""Proposes a conversion to the repository that holds its original, by a pull request that only adds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densenet_convert.densenet.config_file import FILE_NAME as CONFIG

from ..errors import FolderError, PublishError, first_few, quoted
from ..folder import receipt
from ..folder.files import WEIGHTS, file_sha256
from ..folder.others import require_ours_taken, uncovered
from ..folder.receipt import config_from
from ..folder.records import Written
from ..folder.wording import coverage_text, every_input_text, network_name
from ..temporary import temporary_folder
from .errors import hub_errors
from .fetch import SCHEME
from .package import Content, digests_of, file_digest
from .publish import MAIN, commit_files, compare_with_hub, fetch_files, require_fit, require_owner
from .records import Destination, Published, RemoteState, Sent
from .their_config import contradictions
from .trusted import is_trusted

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# Stands for the number of a pull request until it has one.
NUMBER = "refs/pr/N"


def propose_folder(written: Written, to: Destination, *, dry_run: bool = False) -> Published:
    """Opens a pull request that adds what a conversion adds, and compares it as it comes back.

    Repeated, it adds nothing, neither to what was proposed nor to what was merged.

    Args:
        written: a folder whose bytes agree with its receipt.
        to: the repository, whose main branch holds the file that was converted.
        dry_run: look at the repository, and change nothing.

    Raises:
        PublishError: the repository does not hold the original, or has other weights, or says otherwise.
        FolderError: other loaders would take something else in it for what is added.
        HubError: the Hub refuses, fails or does not answer.
    """
    require_fit(written, to)
    from huggingface_hub import HfApi

    asking = partial(hub_errors, f"{SCHEME}{to.repo_id}", to.token)
    with temporary_folder() as scratch, asking():
        api = HfApi(token=to.token)
        to = require_owner(api, to)
        there = _state(api, to.repo_id, MAIN)
        if _is_there(api, to, there, written, scratch / "main"):
            return _already(api, to, there, written, MAIN, scratch)
        original = _original(api, to, there, written, scratch / "original")
        folder = fetch_files(api, to.repo_id, str(there.commit), [CONFIG], scratch / "config")
        package = make_addition(written, to, there, original)
        _require_addable(written, to, there, package, folder)
        to = replace(to, message=to.message or _title(written, original))
        found = _open_request(api, to, written, scratch)
        if found is not None and found[1]:
            there = _state(api, to.repo_id, found[0])
            return _already(api, to, there, written, found[0], scratch)
        planned = _plan(written, to, there, package, original)
        if dry_run:
            return planned
        if found is not None:
            to, there = replace(to, revision=found[0]), _state(api, to.repo_id, found[0])
        sent = commit_files(api, replace(to, create_pr=found is None), there, package, planned)
        _number_description(api, sent)
        with asking(before=f"Commit {sent.commit} is there, but was not fetched back. "):
            compare_with_hub(api, sent, scratch)
        return sent


def make_addition(written: Written, to: Destination, there: RemoteState, original: str) -> dict[str, Content]:
    """Returns what is added: the weights, their receipt, and config.json where there is none."""
    names = [WEIGHTS] if CONFIG in there.files else [WEIGHTS, CONFIG]
    content = {
        **written.receipt,
        "added_to": {"repository": to.repo_id, "file": original},
        "card": {},
        "files": {name: written.receipt["files"][name] for name in names},
        "verification": {**written.receipt["verification"], "files": {}},
    }
    content["verification"].pop("pushed_card", None)
    if CONFIG not in names:  # the names of the classes would be in ours
        content["labels"] = {**content["labels"], "origin": None, "sha256": None}
    sealed = receipt.seal(content).encode()
    return {**{name: written.folder / name for name in names}, receipt.FILE_NAME: sealed}


def _state(api: HfApi, repo_id: str, revision: str) -> RemoteState:
    found = api.model_info(repo_id, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size for file in found.siblings or ()}
    return RemoteState(found.sha, True, digests_of(found), sizes)


def _is_there(api: HfApi, to: Destination, there: RemoteState, written: Written, scratch: Path) -> bool:
    """Whether a branch has these weights, and a receipt of their conversion from this source."""
    if not _has_weights(there, written):
        return False
    folder = fetch_files(api, to.repo_id, str(there.commit), [receipt.FILE_NAME], scratch)
    with suppress(OSError, UnicodeDecodeError, FolderError, KeyError, TypeError):
        content = receipt.unseal((folder / receipt.FILE_NAME).read_bytes().decode())
        same_source = content["source"]["sha256"] == written.receipt["source"]["sha256"]
        return bool(same_source and content["files"][WEIGHTS] == written.receipt["files"][WEIGHTS])
    return False


def _has_weights(there: RemoteState, written: Written) -> bool:
    """Whether a branch has these weights, byte for byte."""
    digests = (("sha256", written.receipt["files"][WEIGHTS]), ("git", file_digest(written.folder / WEIGHTS)))
    return there.files.get(WEIGHTS) in digests


def _already(
    api: HfApi, to: Destination, there: RemoteState, written: Written, revision: str, scratch: Path
) -> Published:
    """Returns what is there, of which nothing is sent again, once it was compared."""
    weights = written.folder / WEIGHTS
    kept = (Sent(WEIGHTS, weights.stat().st_size, written.receipt["files"][WEIGHTS], "keep"),)
    number = revision.removeprefix("refs/pr/")
    page = f"tree/{there.commit}" if revision == MAIN else f"discussions/{number}"
    remarks = (f"{to.repo_id} has this conversion already, in {revision}: nothing is added.",)
    url = f"{api.endpoint}/{to.repo_id}/{page}"
    found = Published(to.repo_id, revision, there.commit, url, to.message, kept, "", remarks)
    compare_with_hub(api, found, scratch)
    return found


def _original(api: HfApi, to: Destination, there: RemoteState, written: Written, scratch: Path) -> str:
    """Returns the name of the repository's file that was converted, by its SHA-256."""
    source = written.receipt["source"]
    for name, digest in sorted(there.files.items()):
        if digest == ("sha256", source["sha256"]):
            return name
        # For a small file the Hub tells git's digest alone.
        if digest[0] == "git" and there.sizes.get(name) == source["size"]:
            folder = fetch_files(api, to.repo_id, str(there.commit), [name], scratch)
            if file_sha256(folder / name) == source["sha256"]:
                return name
    raise PublishError(
        f"{to.repo_id} does not hold what {written.folder} was converted from: no file of its main branch "
        f"has the SHA-256 {source['sha256']}. Convert a file of that repository:\n"
        f"dc.convert({SCHEME + to.repo_id!r})"
    )


def _require_addable(
    written: Written, to: Destination, there: RemoteState, package: Mapping[str, Content], folder: Path
) -> None:
    """Refuses what could only be added by replacing something, or would not be loaded as it was proven."""
    taken = [name for name in (WEIGHTS, receipt.FILE_NAME) if name in there.files]
    if _has_weights(there, written):
        taken.remove(WEIGHTS)
    if taken:
        raise PublishError(
            f"{to.repo_id} holds another {first_few(taken)}, and nothing is replaced. Push to a repository "
            "of your own."
        )
    added = receipt.unseal(bytes(package[receipt.FILE_NAME]).decode())
    require_ours_taken(to.repo_id, there.files, added, folder)
    if CONFIG not in there.files:
        return
    if problems := contradictions(folder / CONFIG, config_from(written.receipt["config"])):
        raise PublishError(
            f"{CONFIG} of {to.repo_id} contradicts the network that was converted: {'; '.join(problems)}. "
            "Loaders would build another network for these weights: ask its owner to mend it."
        )


def _open_request(api: HfApi, to: Destination, written: Written, scratch: Path) -> tuple[str, bool] | None:
    """Returns an open pull request of this title, and whether it is whole, as the user's own may not be."""
    from huggingface_hub import get_token

    # A workflow's token is good for the repository alone, and does not say whose it is.
    user = api.whoami()["name"] if (to.token or get_token()) and not is_trusted() else None
    for found in api.get_repo_discussions(to.repo_id, discussion_type="pull_request"):
        if (found.title, found.status) != (to.message, "open"):
            continue
        revision = f"refs/pr/{found.num}"
        state = _state(api, to.repo_id, revision)
        if _is_there(api, to, state, written, scratch / str(found.num)):
            return revision, True
        if found.author == user:
            return revision, False
    return None


def _plan(
    written: Written, to: Destination, there: RemoteState, package: Mapping[str, Content], original: str
) -> Published:
    files = tuple(
        Sent(name, len(data), hashlib.sha256(data).hexdigest(), "keep" if name in there.files else "add")
        for name, content in sorted(package.items())
        for data in [content if isinstance(content, bytes) else content.read_bytes()]
    )
    others = uncovered(there.files, {"files": dict.fromkeys(package), "verification": {}})
    added = [file.name for file in files if file.action == "add"]
    description = _description(written, to, original, added, others)
    remark = f"{to.repo_id}: {first_few(others, 8)} stay as they are, and are not covered by what is added."
    planned = Published(to.repo_id, MAIN, None, None, to.message, files, "", (remark,), description)
    for file in planned.files:
        if file.name in written.receipt["files"] and file.sha256 != written.receipt["files"][file.name]:
            raise PublishError(f"{written.folder / file.name} changed while it was read. Push again.")
    return planned


def _title(written: Written, original: str) -> str:
    made = written.receipt["converter"]
    network = network_name(config_from(written.receipt["config"]))
    return f"Add {WEIGHTS}: {network}, converted from {quoted(original)} by {made['name']}"


def _description(
    written: Written, to: Destination, original: str, names: list[str], others: list[str]
) -> str:
    """Returns the text of the pull request, in Markdown."""
    proof, source = written.receipt["verification"], written.receipt["source"]
    shown = quoted(original).replace("`", "'")
    known = every_input_text(proof) or "what was compared is equal to the bit"
    seen = f" Coverage: of {coverage_text(proof)}." if coverage_text(proof) else ""
    compared = ", ".join(f"{count:,} {kind}" for kind, count in sorted(proof["compared"].items()))
    return "\n".join(
        [
            f"This adds {', '.join(f'`{name}`' for name in names)}: the network in `{shown}` as safetensors, "
            "under the names that torchvision and timm load. Nothing is deleted or replaced.",
            "",
            f"- It was converted from `{shown}` of this repository, SHA-256 `{source['sha256']}`.",
            f"- Both networks, this one and the reference ({proof['reference']}) with the tensors of that "
            f"file, ran on the same inputs on {proof['device']}: {known}.{seen}",
            f"- Compared were {compared}; the largest difference is "
            f"{max(proof['largest_difference'].values()):g}.",
            f"- Not covered by the receipt, and left as they are: {first_few(others, 20)}.",
            "",
            "This command repeats the proof on your machine, against your file:",
            "",
            "```",
            f"densenet-convert verify {SCHEME}{to.repo_id}@{NUMBER} --source {SCHEME}{to.repo_id}/{shown}",
            "```",
            "",
            "It is installed by `pip install densenet-convert`, and runs nothing that is in a file.",
        ]
    )


def _number_description(api: HfApi, sent: Published) -> None:
    """Puts the number of the pull request into its description; until then it says N."""
    number = int(sent.revision.removeprefix("refs/pr/"))
    text = sent.description.replace(NUMBER, f"refs/pr/{number}")
    with suppress(Exception):  # the pull request is there, and says by which name it is verified
        details: Any = api.get_discussion_details(sent.repo_id, number)
        first = next(event for event in details.events if event.type == "comment")
        api.edit_discussion_comment(sent.repo_id, number, first.id, new_content=text)
