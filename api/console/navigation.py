"""The navigation: which pages it names, in which order. What has no page yet, or is not permitted, is left out."""

from api.console.texts import marked

Entry = tuple[str, str, str]
"""A path, its name, and the right that its page needs."""
NAVIGATION: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "",
        (
            ("/", marked("Overview"), "overview:read"),
            ("/live", marked("Live"), "live:read"),
        ),
    ),
    (
        marked("Look up"),
        (
            ("/packets", marked("Packets"), "packets:read"),
            ("/users", marked("Users"), "users:read"),
            ("/campaigns", marked("Campaigns"), "campaigns:read"),
            ("/labels", marked("Labels"), "labels:read"),
            ("/analysis", marked("Analysis"), "analysis:read"),
        ),
    ),
    (
        marked("To do"),
        (
            ("/approvals", marked("Approvals"), "approvals:read"),
            ("/quarantine", marked("Quarantine"), "quarantine:read"),
            ("/disputes", marked("Disputes"), "disputes:read"),
            ("/alerts", marked("Alerts"), "alerts:read"),
            ("/refunds", marked("Refunds"), "refunds:read"),
            ("/withdrawals", marked("Withdrawals"), "withdrawals:read"),
            ("/freezes", marked("Freezes"), "freezes:read"),
            ("/deposits", marked("Deposits"), "deposits:make"),
        ),
    ),
    (
        marked("Books"),
        (
            ("/reconciliation", marked("Reconciliation"), "reconciliation:read"),
            ("/audit", marked("Audit"), "audit:read"),
            ("/lanes", marked("Lanes"), "lanes:read"),
        ),
    ),
    (
        marked("Console"),
        (
            ("/log", marked("Operator log"), "log:read"),
            ("/operators", marked("Operators"), "operators:read"),
            ("/system", marked("System"), "system:read"),
        ),
    ),
)
