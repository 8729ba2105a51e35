# SPDX-License-Identifier: LGPL-2.1-or-later
"""Named, versioned objects with soft delete: what secrets and keys have in common.

Everything is kept as JSON values, so that a vault's state can be saved and loaded.
Source: Key Vault REST API reference, "Azure Key Vault soft-delete overview".
"""
import re
import time
import uuid
from typing import Any, Optional

import refusal
from wire import Answer, Request

TAGS_MAX = 15
TAG_NAME_MAX = {"secrets": 512, "keys": 256}
PAGE_MAX = 25
NAME = re.compile(r"[0-9A-Za-z-]{1,127}")


class Store:
    """One kind of object in one vault. Callers hold the vault's lock."""
    kind = ""
    id_field = ""

    def __init__(self, vault: Any) -> None:
        self.vault = vault
        self.items: dict[str, dict] = {}
        self.deleted: dict[str, dict] = {}

    # names and versions

    def check_name(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise refusal.bad_parameter(f"The request URI contains an invalid name: {name}")

    def find(self, name: str, version: str = "") -> tuple[dict, dict]:
        """The object and its version, the newest if none is named; names compare without case."""
        item = self.items.get(name.lower())
        if not item:
            raise refusal.not_found(self.kind, name)
        if not version:
            return item, item["versions"][-1]
        for record in item["versions"]:
            if record["version"] == version.lower():
                return item, record
        raise refusal.not_found(self.kind, f"{name}/{version}")

    def add(self, name: str, body: dict, **own: Any) -> tuple[dict, dict]:
        """A new version, and the object with it if it is the first."""
        self.check_name(name)
        if name.lower() in self.deleted:
            raise self._held(name)
        now = int(time.time())
        record = {"version": uuid.uuid4().hex, "created": now, "updated": now, "enabled": True,
                  "nbf": None, "exp": None, "tags": {}, **own}
        self.change(record, body)
        item = self.items.setdefault(name.lower(), {"name": name, "versions": []})
        item["versions"].append(record)
        return item, record

    def change(self, record: dict, body: dict) -> None:
        """Attributes and tags of a set, create, import or update; absent means: as it was."""
        attributes = body.get("attributes") or {}
        tags = body.get("tags")
        for name in ("nbf", "exp"):
            if attributes.get(name) is not None:
                if not isinstance(attributes[name], int):
                    raise refusal.bad_parameter(f"Property {name} has invalid value\r\n")
                record[name] = attributes[name]
        if attributes.get("enabled") is not None:
            # an old client sends the string "true"
            record["enabled"] = str(attributes["enabled"]).lower() == "true"
        if tags is not None:
            longest = TAG_NAME_MAX[self.kind]
            if len(tags) > TAGS_MAX:
                raise refusal.bad_parameter("Too many tags; the maximum number of tags is 15")
            if not all(isinstance(v, str) and len(k) <= longest and len(v) <= longest
                       for k, v in tags.items()):
                raise refusal.bad_parameter("A tag's name or value is too long or no string")
            record["tags"] = tags

    # how objects look outside

    def identifier(self, item: dict, record: Optional[dict] = None) -> str:
        base = f"https://{self.vault.host}/{self.kind}/{item['name']}"
        return f"{base}/{record['version']}" if record else base

    def attributes(self, record: dict) -> dict:
        times = {k: record[k] for k in ("nbf", "exp") if record[k] is not None}
        level = self.vault.recovery_level
        days = {} if level == "Purgeable" else {"recoverableDays": self.vault.recoverable_days}
        return {"enabled": record["enabled"], **times, "created": record["created"],
                "updated": record["updated"], "recoveryLevel": level, **days}

    def listed(self, item: dict, record: dict, versioned: bool) -> dict:
        row = {self.id_field: self.identifier(item, record if versioned else None),
               "attributes": self.attributes(record)}
        if record["tags"]:
            row["tags"] = record["tags"]
        return row

    def page(self, request: Request, path: str, rows: list[dict]) -> Answer:
        """Up to 25 rows and the link to the next."""
        text = request.one("maxresults") or str(PAGE_MAX)
        size = int(text) if text.isdigit() else 0
        if not 1 <= size <= PAGE_MAX:
            raise refusal.bad_parameter("The value of the 'maxresults' parameter is not valid")
        skip = request.one("$skiptoken") or "0"
        start = int(skip) if skip.isdigit() else 0
        link = None
        if start + size < len(rows):
            link = (f"https://{self.vault.host}{path}?api-version={request.one('api-version')}"
                    f"&$skiptoken={start + size}&maxresults={size}")
        return Answer(200, {"value": rows[start:start + size], "nextLink": link})

    def list(self, request: Request) -> Answer:
        rows = [self.listed(i, i["versions"][-1], False)
                for _, i in sorted(self.items.items())]
        return self.page(request, f"/{self.kind}", rows)

    def versions(self, request: Request, name: str) -> Answer:
        """By version id, as the service: the newest is not first. Unknown names list nothing."""
        item = self.items.get(name.lower())
        rows = []
        if item:
            ordered = sorted(item["versions"], key=lambda r: r["version"])
            rows = [self.listed(item, r, True) for r in ordered]
        return self.page(request, f"/{self.kind}/{name}/versions", rows)

    # soft delete

    def _held(self, name: str) -> refusal.Refusal:
        if self._settled(self.deleted[name.lower()]):
            return refusal.conflict(self.kind, name)
        return refusal.being_deleted(self.kind, name)

    def _settled(self, item: dict) -> bool:
        """Deleting is eventually consistent: for some seconds the record is not there yet."""
        return time.time() >= item["deleted"] + self.vault.settle_seconds

    def deletion(self, item: dict) -> dict:
        return {"recoveryId": f"https://{self.vault.host}/deleted{self.kind}/{item['name']}",
                "deletedDate": item["deleted"],
                "scheduledPurgeDate": item["deleted"] + self.vault.recoverable_days * 86400}

    def delete(self, name: str) -> dict:
        item, _ = self.find(name)
        del self.items[name.lower()]
        if self.vault.recovery_level == "Purgeable":
            return self.bundle(item, item["versions"][-1], value=False)
        item["deleted"] = int(time.time())
        self.deleted[name.lower()] = item
        return self.show_deleted(item)

    def show_deleted(self, item: dict) -> dict:
        return {**self.deletion(item), **self.bundle(item, item["versions"][-1], value=False)}

    def find_deleted(self, name: str) -> dict:
        item = self.deleted.get(name.lower())
        if not item or not self._settled(item):
            raise refusal.deleted_not_found(self.kind, name)
        return item

    def list_deleted(self, request: Request) -> Answer:
        rows = [{**self.deletion(i), **self.listed(i, i["versions"][-1], False)}
                for _, i in sorted(self.deleted.items()) if self._settled(i)]
        return self.page(request, f"/deleted{self.kind}", rows)

    def recover(self, name: str) -> dict:
        item = self.find_deleted(name)
        del self.deleted[name.lower()]
        del item["deleted"]
        self.items[name.lower()] = item
        return self.bundle(item, item["versions"][-1], value=False)

    def purge(self, name: str) -> Answer:
        self.find_deleted(name)
        if "Purgeable" not in self.vault.recovery_level:
            raise refusal.purge_protected(self.vault.name)
        del self.deleted[name.lower()]
        return Answer(204)

    def forget(self, name: str, version: str = "") -> None:
        """For tests: as if this object, or this version of it, had never been."""
        self.deleted.pop(name.lower(), None)
        item = self.items.get(name.lower())
        if item:
            item["versions"] = [r for r in item["versions"] if version
                                and r["version"] != version.lower()]
            if not item["versions"]:
                del self.items[name.lower()]

    def bundle(self, item: dict, record: dict, value: bool = True) -> dict:
        raise NotImplementedError
