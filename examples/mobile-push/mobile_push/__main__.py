"""Runs the backend: python3 -m mobile_push."""

import logging
import socket
import sys

import uvicorn

from . import settings
from .app import Backend


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    # At INFO, httpx logs URLs. Apple's URLs contain the devices' tokens, which are secret.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        chosen = settings.read()
    except settings.WrongSettings as wrong:
        sys.exit(str(wrong))
    listener = socket.create_server((chosen.host, chosen.port))
    print("port", listener.getsockname()[1], flush=True)
    config = uvicorn.Config(
        Backend(chosen).app(), log_config=None, access_log=False, limit_concurrency=1000, timeout_graceful_shutdown=10
    )
    uvicorn.Server(config).run(sockets=[listener])


main()
