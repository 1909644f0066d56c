"""The relay changes nothing and counts everything."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from bench.relay import Relay


def test_bytes_of_both_directions_are_counted_once_and_arrive(tmp_path: Path) -> None:
    path = tmp_path / "target"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1000):
                    connection.sendall(2 * data)

        server = threading.Thread(target=answer)
        server.start()
        with Relay(path) as relay:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.connect(str(relay.path))
                client.sendall(b"word")
                assert client.recv(8, socket.MSG_WAITALL) == b"wordword"
                assert relay.take_count() == 12
                assert relay.take_count() == 0
            # The end of the client is passed on too.
            server.join(timeout=10)
            assert not server.is_alive()
