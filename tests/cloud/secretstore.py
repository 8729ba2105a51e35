# SPDX-License-Identifier: LGPL-2.1-or-later
"""The secrets of a vault. Source: Key Vault REST API reference, "Secrets"."""
import refusal
from store import Store
from wire import Answer, Request

VALUE_MAX_BYTES = 25 * 1024
CONTENT_TYPE_MAX = 255


class Secrets(Store):
    kind, id_field = "secrets", "id"

    def bundle(self, item: dict, record: dict, value: bool = True) -> dict:
        bundle = {"value": record["value"]} if value else {}
        if record["contentType"] is not None:
            bundle["contentType"] = record["contentType"]
        return {**bundle, "id": self.identifier(item, record),
                "attributes": self.attributes(record), "tags": record["tags"]}

    def listed(self, item: dict, record: dict, versioned: bool) -> dict:
        row = super().listed(item, record, versioned)
        if record["contentType"] is not None:
            row["contentType"] = record["contentType"]
        return row

    def change(self, record: dict, body: dict) -> None:
        if body.get("contentType") is not None:
            if len(body["contentType"]) > CONTENT_TYPE_MAX:
                raise refusal.bad_parameter("Property contentType is too long\r\n")
            record["contentType"] = body["contentType"]
        super().change(record, body)

    def set(self, name: str, body: dict) -> dict:
        """Every PUT makes a new version."""
        value = body.get("value")
        if not isinstance(value, str):
            raise refusal.bad_parameter("Property 'value' is required.\r\n")
        if len(value.encode()) > VALUE_MAX_BYTES:
            raise refusal.bad_parameter("The value of the secret is too long; the limit is 25k")
        return self.bundle(*self.add(name, body, value=value, contentType=None))

    def answer(self, request: Request, parts: list[str]) -> Answer:
        """`parts`: the path behind /secrets. The vault has checked who may."""
        method = request.method
        if not parts:
            return self.list(request)
        name, version = parts[0], parts[1] if len(parts) > 1 else ""
        if version.lower() == "versions":
            return self.versions(request, name)
        if method == "PUT":
            return Answer(200, self.set(name, request.json()))
        if method == "DELETE":
            return Answer(200, self.delete(name))
        item, record = self.find(name, version)
        if method == "PATCH":
            self.change(record, request.json())
            record["updated"] = self.vault.now()
            return Answer(200, self.bundle(item, record, value=False))
        if not record["enabled"]:
            raise refusal.disabled(self.kind, "get")
        return Answer(200, self.bundle(item, record))
