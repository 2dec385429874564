"""The Hub that the tests talk to takes what the real client sends, and gives it back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from hub_server import TOKEN, running_hub

UPLOAD = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi, snapshot_download
api, folder, name = HfApi(), sys.argv[1], "user/model"
api.create_repo(name, private=True)
first = api.upload_folder(repo_id=name, folder_path=folder, commit_message="one").oid
again = api.upload_folder(repo_id=name, folder_path=folder, commit_message="two").oid
api.create_repo(name, exist_ok=True)
fetched = Path(snapshot_download(name))
print(json.dumps([first == again, {p.name: p.read_text() for p in fetched.iterdir()}]))
"""


def test_what_the_client_uploads_it_downloads_again_and_an_unchanged_folder_makes_no_commit(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    files = {"model.safetensors": "weights" * 20_000, "config.json": "{}"}
    for name, text in files.items():
        (folder / name).write_text(text)
    with running_hub() as hub:
        environment = {**os.environ, **hub.environment(tmp_path / "cache", TOKEN)}
        command = [sys.executable, "-c", UPLOAD, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        unchanged, fetched = json.loads(done.stdout)
        assert hub.repositories["user/model"].private
    assert unchanged
    assert fetched.pop(".gitattributes")
    assert fetched == files
