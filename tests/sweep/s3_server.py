"""An S3 server of this machine, and machines that work on it, each with a scratch folder of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from scaling.sweep.shared import workdir_url


@contextlib.contextmanager
def running() -> Iterator[str]:
    """URL of a server. Each request is answered whole: moto alone checks If-None-Match, then writes."""
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
    """The workdir as a machine with this cache sees it."""
    with monkeypatch.context() as patch:
        patch.setenv("SCALING_CACHE", str(cache))
        return workdir_url.open_workdir(url)
