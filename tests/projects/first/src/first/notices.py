"""The stand-in of a third party that knows closures of stations."""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Notices(BaseHTTPRequestHandler):
    def do_GET(self):
        content = json.dumps({"closed": False}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, required=True)
    ThreadingHTTPServer(("127.0.0.1", options.parse_args().port), Notices).serve_forever()
