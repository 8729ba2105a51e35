# SPDX-License-Identifier: LGPL-2.1-or-later
"""The instance metadata service at 169.254.169.254: who and where this machine is, and its tokens.

Source: "Azure Instance Metadata Service" reference. All values in JSON are strings, also numbers
and booleans; keys are always present.
"""
import copy
from typing import Any, Optional

from faults import Fault
from identity import SUBSCRIPTION, TENANT, Identity, error
from wire import Answer, Request

VERSIONS = ["2017-04-02", "2018-02-01", "2018-10-01", "2019-06-01", "2020-06-01", "2020-09-01",
            "2021-01-01", "2021-02-01", "2021-11-01", "2021-12-13", "2023-07-01", "2023-11-15",
            "2024-03-15", "2024-07-17", "2025-04-07"]

ERRORS = {400: "invalid_request", 401: "unauthorized_client", 403: "forbidden",
          404: "not_found", 405: "method_not_allowed", 410: "gone",
          429: "too_many_requests", 500: "server_error", 503: "service_unavailable"}

_VM = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.Compute"

INSTANCE = {
    "compute": {
        "azEnvironment": "AzurePublicCloud", "customData": "", "evictionPolicy": "",
        "isHostCompatibilityLayerVm": "false", "licenseType": "", "location": "westeurope",
        "name": "vm1", "offer": "debian-12", "osProfile": {
            "adminUsername": "azureuser", "computerName": "vm1",
            "disablePasswordAuthentication": "true"},
        "osType": "Linux", "placementGroupId": "",
        "plan": {"name": "", "product": "", "publisher": ""}, "platformFaultDomain": "0",
        "platformUpdateDomain": "0", "priority": "", "provider": "Microsoft.Compute",
        "publicKeys": [], "publisher": "Debian", "resourceGroupName": "rg1",
        "resourceId": f"{_VM}/virtualMachines/vm1",
        "securityProfile": {"encryptionAtHost": "false", "secureBootEnabled": "false",
                            "securityType": "", "virtualTpmEnabled": "false"},
        "sku": "12", "storageProfile": {
            "dataDisks": [],
            "imageReference": {"id": "", "offer": "debian-12", "publisher": "Debian",
                               "sku": "12", "version": "latest"},
            "osDisk": {
                "caching": "ReadWrite", "createOption": "FromImage",
                "diffDiskSettings": {"option": ""}, "diskSizeGB": "30",
                "encryptionSettings": {
                    "diskEncryptionKey": {"secretUrl": "", "sourceVault": {"id": ""}},
                    "enabled": "false",
                    "keyEncryptionKey": {"keyUrl": "", "sourceVault": {"id": ""}}},
                "image": {"uri": ""},
                "managedDisk": {"id": f"{_VM}/disks/vm1_os", "storageAccountType": "Premium_LRS"},
                "name": "vm1_os", "osType": "Linux", "vhd": {"uri": ""},
                "writeAcceleratorEnabled": "false"},
            "resourceDisk": {"size": "0"}},
        "subscriptionId": SUBSCRIPTION, "tags": "", "tagsList": [], "userData": "",
        "version": "0.1", "virtualMachineScaleSet": {"id": ""},
        "vmId": "33333333-4444-4555-8666-777777777777", "vmScaleSetName": "",
        "vmSize": "Standard_D2s_v5", "zone": ""},
    "network": {"interface": [{
        "ipv4": {"ipAddress": [{"privateIpAddress": "10.0.0.4", "publicIpAddress": ""}],
                 "subnet": [{"address": "10.0.0.0", "prefix": "24"}]},
        "ipv6": {"ipAddress": []}, "macAddress": "000D3A000001"}]},
}

# fields that older versions of the interface do not show
SINCE = {("compute", "securityProfile"): "2019-11-01",
         ("compute", "securityProfile", "encryptionAtHost"): "2021-11-01",
         ("compute", "securityProfile", "securityType"): "2021-12-13",
         ("compute", "storageProfile"): "2019-06-01",
         ("compute", "storageProfile", "osDisk", "encryptionSettings"): "2021-11-01",
         ("compute", "userData"): "2021-01-01"}


def merge(into: dict, changes: dict) -> None:
    """Lay `changes` over `into`, deeply; lists are replaced."""
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


class Metadata:
    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self.instance: dict[str, Any] = copy.deepcopy(INSTANCE)

    def configure(self, network: Optional[dict] = None, **compute: Any) -> dict:
        """`location="westus", securityProfile={"encryptionAtHost": "true"}`; deep, lists whole."""
        merge(self.instance["compute"], compute)
        merge(self.instance["network"], network or {})
        return self.instance

    def answer(self, request: Request, fault: Optional[Fault]) -> Answer:
        if fault and fault.action != "token":
            return self.spoiled(fault)
        if request.method != "GET":
            return error(405, "method_not_allowed", "The method is not allowed.", Allow="GET")
        if (request.headers.get("Metadata") or "").lower() != "true":
            return error(400, "invalid_request", "Required metadata header not specified")
        if request.headers.get("X-Forwarded-For"):
            return error(400, "invalid_request", "Request must not contain X-Forwarded-For")
        names = [k.lower() for k, _ in request.query]
        if len(names) != len(set(names)):
            return error(400, "invalid_request", "Duplicate query parameters")
        parts = [p for p in request.path.split("/") if p]
        if parts == ["metadata", "versions"]:
            return Answer(200, {"apiVersions": VERSIONS})
        if parts == ["metadata", "identity", "oauth2", "token"]:
            return self.identity.metadata_token(request, fault)
        if parts == ["metadata", "identity", "info"]:
            return Answer(200, {"tenantId": TENANT})
        if parts[:2] == ["metadata", "instance"]:
            return self._instance(request, parts[2:])
        return error(404, "not_found", "The requested element is not found.")

    def _instance(self, request: Request, parts: list[str]) -> Answer:
        version = request.one("api-version")
        if version not in VERSIONS:
            return Answer(400, {"error": "Bad request. api-version is invalid or was not specified "
                                "in the request.", "newest-versions": VERSIONS[:-4:-1]})
        node: Any = copy.deepcopy(self.instance)
        for path, since in SINCE.items():
            if version < since:
                parent = node
                for name in path[:-1]:
                    parent = parent.get(name, {})
                parent.pop(path[-1], None)
        for part in parts:
            if isinstance(node, list) and part.isdigit() and int(part) < len(node):
                node = node[int(part)]
            elif isinstance(node, dict) and part in node:
                node = node[part]
            else:
                return error(404, "not_found", "The requested element is not found.")
        if isinstance(node, (dict, list)):
            if request.one("format").lower() == "text":
                names = node if isinstance(node, dict) else range(len(node))
                return Answer(200, "\n".join(str(n) for n in names).encode(),
                              {"Content-Type": "text/plain; charset=utf-8"})
            return Answer(200, node)
        if request.one("format").lower() != "text":
            return Answer(404, {"error": "Bad request. The requested leaf needs format=text"})
        return Answer(200, str(node).encode(), {"Content-Type": "text/plain; charset=utf-8"})

    @staticmethod
    def spoiled(fault: Fault) -> Answer:
        """What a fault makes of an answer: an error in this service's words."""
        given = fault.with_
        if fault.action == "identity-not-found":
            return error(400, "invalid_request", "Identity not found")
        status = given.get("status", 429 if fault.action == "throttled" else
                           404 if fault.action == "not-found" else 500)
        if fault.action == "unauthorized":
            status = 401
        answer = error(status, ERRORS.get(status, "server_error"), f"Fault: {status}")
        if "body" in given:
            answer.body = given["body"]
        if given.get("retry_after") is not None:
            answer.headers["Retry-After"] = str(given["retry_after"])
        answer.headers.update(given.get("headers", {}))
        return answer
