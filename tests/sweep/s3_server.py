"""Run a local S3 server, and open workdirs on it as different machines with their own scratch."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from scaling.sweep.shared import workdir_url


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Yield the URL of a server that answers one request at a time.

    Without that, moto checks If-None-Match and then writes, which is not atomic.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    answer, lock = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_at_a_time(environ, start_response):
        with lock:
            return list(answer(environ, start_response))

    http = make_server("127.0.0.1", 0, one_at_a_time, threaded=True)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()


def mirror(url: str, cache, monkeypatch) -> workdir_url.Workdir:
    """Open the workdir as a machine with this cache."""
    with monkeypatch.context() as patch:
        patch.setenv("SCALING_CACHE", str(cache))
        return workdir_url.open_workdir(url)
