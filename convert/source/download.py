"""Gets one of torchvision's weight files: from torch's hub cache, or by a download into it."""

from __future__ import annotations

import socket
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from ..errors import WeightsUnavailableError

# Seconds without a byte after which a connection counts as dead.
TIMEOUT = 60


def download(url: str, digits: str, *, progress: bool) -> Path:
    """The file in torch's hub cache, downloaded first if it isn't there.

    A cached file is not checked here: whoever reads it checks what it reads.

    Args:
        url: its last part is the file's name.
        digits: what the SHA-256 of a download must begin with.
        progress: draw a bar on stderr.

    Raises:
        WeightsUnavailableError: it is not cached and can't be downloaded whole.
    """
    import torch

    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    instead = (
        f"If the file is at hand, name it with `checkpoint=...`, or put it at {path}; "
        "to try the tool without it, use `weights='random'`."
    )
    timeout = socket.getdefaulttimeout()
    try:
        if path.exists():
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(TIMEOUT)
        torch.hub.download_url_to_file(url, str(path), digits, progress=progress)
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, HTTPError):
            error.close()  # it is the response, too
        raise WeightsUnavailableError(f"{url} can't be downloaded: {reason}. {instead}") from error
    except RuntimeError as error:  # torch.hub's word for a wrong digest
        raise WeightsUnavailableError(
            f"What {url} sent is not the published file, or was cut off: {error}. Nothing was kept. {instead}"
        ) from error
    except OSError as error:
        raise WeightsUnavailableError(
            f"{path} can't be written: {error.strerror or error}. {instead}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    return path
