"""What operators may do. A permission is ``resource:action``, and a role is a set of permissions.

docs/console-access.md has a table with every page of the console and every role. A test tries each cell of it.
"""

from collections.abc import Mapping

_READ = (
    *("alerts:read", "analysis:read", "approvals:read", "audit:read", "campaigns:read", "disputes:read"),
    *("freezes:read", "labels:read", "lanes:read", "live:read", "log:read", "overview:read", "packets:read"),
    *("quarantine:read", "reconciliation:read", "refunds:read", "search:read", "system:read", "users:read"),
    "withdrawals:read",
)
_EXPORT = (
    *("alerts:export", "audit:export", "campaigns:export", "disputes:export", "freezes:export", "live:export"),
    *("labels:export", "packets:export", "quarantine:export", "reconciliation:export", "refunds:export"),
    *("users:export", "withdrawals:export", "analysis:export"),
)
VIEWER, SUPPORT, RISK, FINANCE, OPERATOR, ADMIN = "viewer", "support", "risk", "finance", "operator", "admin"
ROLES: Mapping[str, frozenset[str]] = {
    # Everything but bank accounts and evidence. No files.
    VIEWER: frozenset(_READ),
    # Who answers users: notes, and the file of one user.
    SUPPORT: frozenset((*_READ, "notes:write", "statements:export", "disputes:evidence")),
    RISK: frozenset(
        (
            *_READ,
            *("alerts:write", "approvals:decide", "freezes:write", "labels:write", "notes:write", "profiles:write"),
            *("alerts:export", "freezes:export", "users:export"),
        )
    ),
    FINANCE: frozenset(
        (
            *_READ,
            *_EXPORT,
            *(
                "analysis:run",
                "approvals:decide",
                "campaigns:fund",
                "campaigns:write",
                "deposits:make",
                "disputes:decide",
            ),
            *("disputes:evidence", "notes:write", "quarantine:retry", "quarantine:write_off", "reconciliation:explain"),
            *("reconciliation:run", "refunds:close", "statements:export", "withdrawals:accounts", "withdrawals:ask"),
        )
    ),
    OPERATOR: frozenset(
        (
            *_READ,
            *("approvals:decide", "audit:run", "lanes:force", "lanes:recover", "reconciliation:run", "refunds:close"),
            *("audit:export", "live:export", "system:examine", "analysis:run"),
        )
    ),
    # Operators and their sessions. It moves no money.
    ADMIN: frozenset((*_READ, "log:export", "operators:read", "operators:write")),
}
"""From the one that may least. A role is kept by its name, so a name never changes its meaning to more than it was."""
PERMISSIONS = frozenset().union(*ROLES.values())
"""Every permission that any role has."""


def permissions_of(role: str) -> frozenset[str]:
    """What a role may do. A role that this release does not know may do nothing."""
    return ROLES.get(role, frozenset())
