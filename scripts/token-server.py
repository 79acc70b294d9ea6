#!/usr/bin/env python3
"""A token server as GitLab has one, for a registry under test: it knows one user and one password.

    token-server.py ADDRESS PORT CERTIFICATE KEY USER PASSWORD

It speaks TLS with CERTIFICATE and KEY, and signs tokens with the same key: the registry's `rootcertbundle` is CERTIFICATE.
Who shows no password may pull what lies below `library/`; a wrong one is refused.
Spec: distribution, docs/spec/auth/{token,jwt}.md. Needs openssl.
"""
import base64, http.server, json, ssl, subprocess, sys, time, urllib.parse

ADDRESS, PORT, CERTIFICATE, KEY, USER, PASSWORD = sys.argv[1:7]
KNOWN = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
PEM = open(CERTIFICATE).read().split("-----BEGIN CERTIFICATE-----")[1].split("-----END")[0]
X5C = "".join(PEM.split())


def part(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(access):
    now = int(time.time())
    head = {"typ": "JWT", "alg": "RS256", "x5c": [X5C]}
    claims = {"iss": "jobs", "sub": USER, "aud": "registry", "exp": now + 60, "nbf": now - 5, "iat": now, "jti": str(now),
              "access": access}
    text = part(json.dumps(head).encode()) + "." + part(json.dumps(claims).encode())
    signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", KEY], input=text.encode(), capture_output=True, check=True)
    return text + "." + part(signed.stdout)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, query):
        shown = self.headers.get("Authorization", "")
        if shown and shown != KNOWN:
            return self.reply(401, {"errors": [{"code": "UNAUTHORIZED", "message": "HTTP Basic: Access denied"}]})
        access = []
        for scopes in urllib.parse.parse_qs(query).get("scope", []):
            for scope in scopes.split(" "):
                kind, name, actions = scope.split(":")
                allowed = actions.split(",") if shown else ["pull"] if name.startswith("library/") else []
                access.append({"type": kind, "name": name, "actions": [a for a in actions.split(",") if a in allowed]})
        made = token(access)
        self.reply(200, {"token": made, "access_token": made, "expires_in": 60})

    def do_GET(self):
        self.answer(urllib.parse.urlsplit(self.path).query)

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

    def reply(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer((ADDRESS, int(PORT)), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
