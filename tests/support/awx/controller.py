# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server on loopback with the part of AWX's API that the modules of awx.awx use. It keeps objects, and starts no job.

It cannot show that AWX accepts each value. It shows that the modules accept the data, that every name leads to an object, and that a
second run sends no other object.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.awx import surveys

TOKEN = "token-of-a-test"  # of the server below
# Kind of objects -> its name in the field `type` of an object.
KINDS = {
    "organizations": "organization",
    "execution_environments": "execution_environment",
    "credential_types": "credential_type",
    "credentials": "credential",
    "projects": "project",
    "inventories": "inventory",
    "inventory_sources": "inventory_source",
    "notification_templates": "notification_template",
    "job_templates": "job_template",
    "workflow_job_templates": "workflow_job_template",
    "workflow_job_template_nodes": "workflow_job_template_node",
    "workflow_approval_templates": "workflow_approval",
    "schedules": "schedule",
}
# What a schedule or a node can start.
STARTABLE = ("job_templates", "workflow_job_templates", "projects", "inventory_sources")
# The fields that AWX adds to an object.
DEFAULTS: dict[str, dict[str, Any]] = {
    "inventories": {"kind": "", "host_filter": None},
    "projects": {"scm_revision": "1"},
}
PATH = re.compile(r"/api/v2/(?P<kind>\w+)/(?:(?P<id>\d+)/(?:(?P<sub>\w+)/)?)?")
UPDATES = {"projects": "project_updates", "inventory_sources": "inventory_updates"}
# AWX drops the other fields, so awx.awx sends an approval in each run.
APPROVAL = ("name", "description", "timeout")
Answer = tuple[int, Any]


class Controller:
    """The objects of an AWX, and the requests that changed them."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.links: dict[tuple[str, int, str], list[int]] = {}
        self.surveys: dict[tuple[str, int], Any] = {}
        #: Method and path of each request that is not a GET.
        self.writes: list[str] = []
        self._last = 0
        self.lock = threading.Lock()
        self.add("organizations", {"name": "Default"})
        galaxy = self.add("credential_types", {"name": "Ansible Galaxy/Automation Hub API Token"})
        self.add("credentials", {"name": "Ansible Galaxy", "credential_type": galaxy["id"]})

    def named(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the objects of a kind by their name."""
        return {found["name"]: found for found in self.objects[kind].values()}

    def add(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        url = f"/api/v2/{kind}/{self._last}/"
        related = {name: f"{url}{name}/" for name in ("update", "survey_spec")}
        own: dict[str, Any] = {
            "id": self._last,
            "type": KINDS[kind],
            "url": url,
            "related": related,
            "summary_fields": {},
        }
        self.objects[kind][self._last] = {**DEFAULTS.get(kind, {}), **self._stored(kind, fields), **own}
        if fields.get("kind") == "constructed" and kind == "inventories":
            name = f"Auto-created source for: {fields['name']}"
            self.add("inventory_sources", {"name": name, "inventory": own["id"], "source": "constructed"})
        return self.objects[kind][own["id"]]

    def _stored(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields as AWX shows them. Secrets are hidden."""
        if kind != "credentials" or "inputs" not in fields:
            return fields
        inputs = self.objects["credential_types"][fields["credential_type"]]["inputs"]["fields"]
        hidden = {field["id"]: "$encrypted$" for field in inputs if field.get("secret")}
        return {**fields, "inputs": {**fields["inputs"], **hidden}}

    def answer(self, method: str, target: str, body: dict[str, Any]) -> Answer:
        url = urlsplit(target)
        found = PATH.fullmatch(url.path)
        if method != "GET":
            self.writes.append(f"{method} {url.path}")
        if found and found["kind"] == "unified_job_templates":
            return self._page(
                [value for part in STARTABLE for value in self.objects[part].values()], url.query
            )
        if found and found["kind"] in UPDATES.values():
            done = {"status": "successful", "failed": False, "finished": "now", "scm_revision": "1"}
            return 200, {"id": int(found["id"]), **done}
        if not found or found["kind"] not in KINDS:
            return 404, {"detail": "Not found."}
        kind = found["kind"]
        if not found["id"]:
            return (
                (201, self.add(kind, body))
                if method == "POST"
                else self._page([*self.objects[kind].values()], url.query)
            )
        if int(found["id"]) not in self.objects[kind]:
            return 404, {"detail": "Not found."}
        return self._of_object(method, kind, int(found["id"]), found["sub"], body)

    def _of_object(
        self, method: str, kind: str, number: int, sub: str | None, body: dict[str, Any]
    ) -> Answer:
        if sub:
            return self._sub(method, kind, number, sub, body)
        if method != "GET":
            is_known = kind != "workflow_approval_templates"
            known = {key: value for key, value in body.items() if is_known or key in APPROVAL}
            self.objects[kind][number].update(self._stored(kind, known))
        return 200, self.objects[kind][number]

    def _sub(self, method: str, kind: str, number: int, sub: str, body: dict[str, Any]) -> Answer:
        """Answer a request about a part of an object."""
        if sub == "update":
            return 202, {"id": number, "url": f"/api/v2/{UPDATES[kind]}/{number}/", "status": "pending"}
        if sub == "survey_spec":
            return self._survey(method, kind, number, body)
        if sub == "create_approval_template":
            approval = self.add("workflow_approval_templates", {key: body.get(key) for key in APPROVAL})
            node = self.objects[kind][number]
            node["unified_job_template"] = approval["id"]
            node["related"] = {**node["related"], "unified_job_template": approval["url"]}
            return 201, approval
        linked = self.links.setdefault((kind, number, sub), [])
        if method == "GET":
            return self._page([{"id": entry} for entry in linked], "")
        if body.get("disassociate"):
            linked.remove(body["id"])
        else:
            linked.append(body["id"])
        return 204, None

    def _survey(self, method: str, kind: str, number: int, body: dict[str, Any]) -> Answer:
        if method == "GET":
            return 200, self.surveys.get((kind, number), {})
        wrong = surveys.problems(body)
        if wrong:
            return 400, {"error": "; ".join(wrong)}
        self.surveys[kind, number] = body
        return 200, {}

    @staticmethod
    def _page(items: list[dict[str, Any]], query: str) -> Answer:
        wanted = dict(parse_qsl(query))
        chosen = [item for item in items if all(str(item.get(key)) == value for key, value in wanted.items())]
        return 200, {"count": len(chosen), "next": None, "results": chosen}


@contextmanager
def running() -> Iterator[tuple[Controller, str]]:
    """Run the server. Yield its objects and its URL."""
    controller = Controller()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            with controller.lock:
                status, data = controller.answer(self.command, self.path, body)
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, data = 401, {"detail": "Authentication credentials were not provided."}
            content = b"" if data is None else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("X-API-Product-Name", "AWX")
            self.send_header("X-API-Product-Version", "24.6.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815  # the names are the library's

        def log_message(self, *_arguments: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield controller, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
