# SPDX-License-Identifier: LGPL-2.1-or-later
"""What Key Vault says when it says no: status, code, inner code and words.

Clients decide on the status and the inner code. The words are the service's own where a recording
of real traffic showed them, and in its manner elsewhere. Source: Key Vault REST API reference,
"Authentication, requests and responses", "REST API error codes".
"""
from typing import Any, Optional

from identity import TENANT
from wire import Answer

_HELP = "For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid="


class Refusal(Exception):
    """A no that a client is told about."""

    def __init__(self, status: int, code: str, message: str, inner: Optional[str] = None,
                 headers: Optional[dict[str, str]] = None, body: bool = True) -> None:
        super().__init__(message)
        content: dict[str, Any] = {"code": code, "message": message}
        if inner:
            content["innererror"] = {"code": inner}
        self.answer = Answer(status, {"error": content} if body else None, headers or {})


def bad_parameter(message: str) -> Refusal:
    return Refusal(400, "BadParameter", message)


def not_found(kind: str, name: str) -> Refusal:
    noun = kind[:-1]
    article = "A" if noun in ("secret", "key") else "An"
    return Refusal(404, f"{noun.capitalize()}NotFound",
                   f"{article} {noun} with (name/id) {name} was not found in this key vault. If "
                   f"you recently deleted this {noun} you may be able to recover it using the "
                   f"correct recovery command. {_HELP}2125182")


def deleted_not_found(kind: str, name: str) -> Refusal:
    noun = kind[:-1].capitalize()
    return Refusal(404, f"{noun}NotFound", f"Deleted {noun} not found: {name}")


def conflict(kind: str, name: str) -> Refusal:
    noun = kind[:-1].capitalize()
    return Refusal(409, "Conflict", f"{noun} {name} is currently in a deleted but recoverable "
                   "state, and its name cannot be reused; in this state, the "
                   f"{kind[:-1]} can only be recovered or purged.", "ObjectIsDeletedButRecoverable")


def being_deleted(kind: str, name: str) -> Refusal:
    noun = kind[:-1].capitalize()
    return Refusal(409, "Conflict", f"{noun} {name} is currently being deleted and cannot be "
                   "re-created; retry later.", "ObjectIsBeingDeleted")


def disabled(kind: str, operation: str) -> Refusal:
    noun = kind[:-1]
    return Refusal(403, "Forbidden", f"Operation {operation} is not allowed on a disabled {noun}.",
                   f"{noun.capitalize()}Disabled")


def outside_validity(operation: str, expired: bool) -> Refusal:
    """Wrap, encrypt and sign want a key within nbf and exp; the inner code is not recorded."""
    state = "an expired" if expired else "a not yet valid"
    return Refusal(403, "Forbidden", f"Operation {operation} is not allowed on {state} key.",
                   "KeyExpired" if expired else "KeyNotYetValid")


def operation_forbidden(operation: str) -> Refusal:
    return Refusal(403, "Forbidden", f"Operation {operation} is not permitted on this key.",
                   "KeyOperationForbidden")


def purge_protected(vault: str) -> Refusal:
    """Status as documented; the words and the inner code are not from a recording."""
    return Refusal(403, "Forbidden", "Operation \"purge\" is not allowed because purge protection "
                   f"is enabled for vault {vault}.", "ForbiddenByPurgeProtection")


def throttled() -> Refusal:
    """The recorded real one had no Retry-After."""
    return Refusal(429, "Throttled", "Request was not processed because too many requests were "
                   "received. Reason: VaultRequestTypeLimitReached", "VaultRequestTypeLimitReached")


def forbidden(how: str, who: str, action: str, resource: str, vault: str, region: str,
              client: str) -> Refusal:
    """One of the five kinds of 403 that concern the caller and not the object."""
    where = f"Vault: {vault};location={region}\r\n"
    kind, verb = (action.split("/") + [""])[:2]
    if how == "forbidden-by-policy":
        return Refusal(403, "Forbidden", f"The user, group or application '{who}' does not have "
                       f"{kind} {verb} permission on key vault '{vault};location={region}'. "
                       f"{_HELP}2125287", "ForbiddenByPolicy")
    if how == "access-denied":
        return Refusal(403, "Forbidden", "Access denied to first party service or caller has no "
                       f"access policy.\r\nCaller: {who}\r\n{where}", "AccessDenied")
    if how == "forbidden-by-rbac":
        return Refusal(403, "Forbidden", "Caller is not authorized to perform action on resource."
                       "\r\nIf role assignments, deny assignments or role definitions were changed "
                       f"recently, please observe propagation time.\r\nCaller: {who}\r\nAction: "
                       f"'Microsoft.KeyVault/vaults/{action}/action'\r\nResource: '{resource}'\r\n"
                       "Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: null"
                       f"\r\n{where}", "ForbiddenByRbac")
    if how == "forbidden-by-firewall":
        return Refusal(403, "Forbidden", "Client address is not authorized and caller is not a "
                       f"trusted service.\r\nClient address: {client}\r\nCaller: {who}\r\n{where}",
                       "ForbiddenByFirewall")
    return Refusal(403, "Forbidden", "Public network access is disabled and request is not from a "
                   f"trusted service nor via an approved private link.\r\nCaller: {who}\r\n{where}",
                   "ForbiddenByConnection")


def unauthorized(message: str, resource: str, hsm: bool, claims: str = "",
                 authority: str = "https://login.microsoftonline.com") -> Refusal:
    """401 with the challenge that says where to get a token, and for what."""
    challenge = f'Bearer authorization="{authority}/{TENANT}", resource="{resource}"'
    if claims:
        challenge += f', error="insufficient_claims", claims="{claims}"'
    return Refusal(401, "Unauthorized", message, headers={"WWW-Authenticate": challenge},
                   body=not hsm)
