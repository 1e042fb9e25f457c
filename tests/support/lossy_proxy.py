"""A TCP proxy in a thread, which loses the response to a request when it is asked to."""

import contextlib
import select
import socket
import threading
import time


class LossyProxy:
    """Forwards connections to a port. `cut` forwards the next request, loses its response, and closes the connections."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self._cutting = False
        self._is_open = True
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """Lose the response to the next request."""
        self._cutting = True

    def close(self) -> None:
        """Stop forwarding. Idempotent."""
        self._is_open = False
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        while self._is_open:
            if select.select([self._listener], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    client, _ = self._listener.accept()
                    thread = threading.Thread(target=self._forward, args=(client,), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._target) as server, contextlib.suppress(OSError):
            other = {client: server, server: client}
            while self._is_open:
                for source in select.select([client, server], [], [], 0.05)[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    other[source].sendall(data)
                    if source is client and self._cutting:
                        self._cutting = False
                        self.cuts += 1
                        time.sleep(0.2)  # the server executes it, and nobody reads its response
                        return
