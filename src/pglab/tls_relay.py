"""A man in the middle: it takes TLS connections by a certificate of its own, and passes them on.

It reads everything, and with ``strip`` it speaks to the real server without TLS, so that this
server does not offer to bind its password check to the TLS connection. For a lesson, on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import tempfile
import threading
from pathlib import Path

from pglab.closeable import Closeable
from pglab.tls import Issued

__all__ = ["Relay"]

_SSL_REQUEST = struct.pack("!II", 8, 80877103)  # a startup packet: length and code, by protocol 3.0
_CHUNK = 65536


class Relay(Closeable):
    """A thread that listens on a port of its own; use it as a context manager.

    Args:
        certificate: which it shows.
        port: of the real server, on 127.0.0.1.
        strip: speak to that without TLS.

    Attributes:
        port: where it listens, on 127.0.0.1.
    """

    def __init__(self, certificate: Issued, port: int, *, strip: bool = False) -> None:
        self._server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server_side.set_alpn_protocols(["postgresql"])
        with tempfile.TemporaryDirectory(prefix="pglab-relay-") as folder:
            pem = Path(folder, "pem")  # the library reads keys from files alone
            pem.touch(mode=0o600)
            pem.write_bytes(certificate.key_pem + certificate.cert_pem)
            self._server_side.load_cert_chain(pem)
        self._client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client_side.check_hostname = False  # a thief asks nobody for a passport
        self._client_side.verify_mode = ssl.CERT_NONE
        self._to = port
        self._strip = strip
        self._heard = bytearray()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    def heard(self, words: bytes | str) -> bool:
        """Tell whether these words came through, in the clear, in either direction."""
        with self._lock:
            return (words.encode() if isinstance(words, str) else words) in self._heard

    def close(self) -> None:
        """Stop listening, and cut what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            cut = list(self._open)
        for connection in cut:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(5)

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed
                return
            self._start(self._serve, client)

    def _start(self, work: object, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        with self._lock:
            self._threads.append(thread)
        thread.start()
        return thread

    def _serve(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            stack.enter_context(client)
            server = stack.enter_context(socket.create_connection(("127.0.0.1", self._to), 10))
            if client.recv(len(_SSL_REQUEST), socket.MSG_PEEK) == _SSL_REQUEST:
                client.recv(len(_SSL_REQUEST))
                client.sendall(b"S")
                client = stack.enter_context(
                    self._server_side.wrap_socket(client, server_side=True)
                )
                if not self._strip:
                    server.sendall(_SSL_REQUEST)
                    if server.recv(1) == b"S":
                        server = stack.enter_context(self._client_side.wrap_socket(server))
            with self._lock:
                self._open |= {client, server}
            back = self._start(self._pass_on, server, client)
            self._pass_on(client, server)
            back.join(10)
            with self._lock:
                self._open -= {client, server}

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                with self._lock:
                    self._heard += data
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
