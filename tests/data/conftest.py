"""A server on this machine that breaks off, forgets ranges or changes its bytes when told to."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Served:
    def __init__(self, address):
        self.address = address
        self.files = {}  # path -> bytes
        self.ranges = True
        self.break_after = []  # bytes to send before hanging up, one entry per request
        self.declare_length = True
        self.tag = '"v1"'
        self.requests = []  # (path, Range header or None)

    def url(self, path):
        return f"{self.address}/{path}"


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state = self.server.state
            state.requests.append((self.path[1:], self.headers.get("Range")))
            body = state.files.get(self.path[1:])
            if body is None:
                self.send_error(404)
                return
            start, total = 0, len(body)
            wanted = self.headers.get("Range")
            if wanted and state.ranges and self.headers.get("If-Range", state.tag) == state.tag:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                if start >= total:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{total}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
            else:
                self.send_response(200)
            if state.tag:
                self.send_header("ETag", state.tag)
            if state.declare_length:
                self.send_header("Content-Length", str(total - start))
            self.end_headers()
            stop = start + state.break_after.pop(0) if state.break_after else total
            self.wfile.write(body[start:stop])

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.state = Served(f"http://127.0.0.1:{httpd.server_port}")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield httpd.state
        httpd.shutdown()
        thread.join()
