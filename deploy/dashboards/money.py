"""Money: whether the books are right, and what waits for a person, a bank or the sweeper."""

from deploy.dashboards.panels import Dashboard, Panel, Query, Row

_AUDIT_AGE = "time() - max(hongbao_audit_finished_timestamp_seconds or hongbao_audit_run_timestamp_seconds > 0)"
_RECONCILIATION_AGE = (
    "time() - max(hongbao_reconciliation_finished_timestamp_seconds"
    " or hongbao_reconciliation_run_timestamp_seconds > 0)"
)
_DAY_AND_HOUR_S = 90_000

MONEY = Dashboard(
    name="money",
    title="money",
    description="Whether the books are right, and whose money waits.",
    time_from="now-24h",
    rows=(
        Row(
            "The books",
            (
                Panel(
                    title="Books wrong",
                    description="Problems that the last audit found.",
                    unit="none",
                    queries=(
                        Query("sum(max by (invariant) (hongbao_audit_problems)) or max(hongbao_audit_run_problems)"),
                    ),
                    runbook="imbalance",
                    kind="stat",
                    red_from=1,
                ),
                Panel(
                    title="Since the last audit",
                    description="It must run once per day.",
                    unit="s",
                    queries=(Query(_AUDIT_AGE),),
                    runbook="imbalance",
                    kind="stat",
                    red_from=_DAY_AND_HOUR_S,
                ),
                Panel(
                    title="Differences",
                    description="What the last reconciliation found.",
                    unit="none",
                    queries=(
                        Query(
                            "sum(max by (comparison) (hongbao_reconciliation_differences))"
                            " or max(hongbao_reconciliation_run_differences)"
                        ),
                    ),
                    runbook="reconciliation",
                    kind="stat",
                    red_from=1,
                ),
                Panel(
                    title="Since the last reconciliation",
                    description="Each day must be reconciled on the next.",
                    unit="s",
                    queries=(Query(_RECONCILIATION_AGE),),
                    runbook="reconciliation",
                    kind="stat",
                    red_from=_DAY_AND_HOUR_S,
                ),
                Panel(
                    title="In quarantine",
                    description="Changes that are in nobody's books until somebody decides.",
                    unit="none",
                    queries=(Query("sum(max by (lane) (hongbao_quarantine_open))"),),
                    runbook="quarantine",
                    kind="stat",
                    red_from=1,
                ),
                Panel(
                    title="Disputes overdue",
                    description="Their deadline has passed.",
                    unit="none",
                    queries=(Query("max(hongbao_disputes_overdue)"),),
                    runbook="disputes-overdue",
                    kind="stat",
                    red_from=1,
                ),
            ),
        ),
        Row(
            "What the checks found",
            (
                Panel(
                    title="Problems by invariant",
                    description="Of the last audit. Each must be 0.",
                    unit="none",
                    queries=(Query("max by (invariant) (hongbao_audit_problems)", "{{invariant}}"),),
                    runbook="imbalance",
                ),
                Panel(
                    title="Differences by comparison",
                    description="Of the last reconciliation. Each must be 0.",
                    unit="none",
                    queries=(Query("max by (comparison) (hongbao_reconciliation_differences)", "{{comparison}}"),),
                    runbook="reconciliation",
                ),
                Panel(
                    title="Age of the checks",
                    description="The alerts fire after 25 hours.",
                    unit="s",
                    queries=(Query(_AUDIT_AGE, "audit"), Query(_RECONCILIATION_AGE, "reconciliation")),
                    runbook="reconciliation",
                ),
            ),
        ),
        Row(
            "What waits",
            (
                Panel(
                    title="Waiting for a person",
                    description="Disputes to decide, overdue ones, and what a second operator must approve.",
                    unit="none",
                    queries=(
                        Query("max(hongbao_disputes_open)", "disputes open"),
                        Query("max(hongbao_disputes_overdue)", "disputes overdue"),
                        Query("max(hongbao_approvals_waiting)", "approvals"),
                    ),
                    runbook="disputes-overdue",
                ),
                Panel(
                    title="Refunds",
                    description="Packets that have ended, but whose rest is not back with its sender.",
                    unit="none",
                    queries=(Query("max(hongbao_refunds_waiting)", "waiting"),),
                    runbook="refunds-waiting",
                ),
                Panel(
                    title="Oldest refund",
                    description="For how long it has waited. Usually it is below a second.",
                    unit="s",
                    queries=(Query("max(hongbao_refunds_waiting_seconds)", "oldest"),),
                    runbook="refunds-waiting",
                ),
                Panel(
                    title="Withdrawals",
                    description="Asked for, and not settled by the provider.",
                    unit="none",
                    queries=(Query("max(hongbao_withdrawals_processing)", "processing"),),
                    runbook="withdrawals-waiting",
                ),
                Panel(
                    title="Oldest withdrawal",
                    description="For how long the oldest one is under way.",
                    unit="s",
                    queries=(Query("max(hongbao_withdrawals_processing_seconds)", "oldest"),),
                    runbook="withdrawals-waiting",
                ),
                Panel(
                    title="Alerts to the webhook",
                    description="Tries to deliver an alert to the risk team. Given up: the last try failed.",
                    unit="reqps",
                    queries=(
                        Query("sum by (outcome) (rate(hongbao_webhook_tries_total[$__rate_interval]))", "{{outcome}}"),
                    ),
                    runbook="alerts-not-delivered",
                ),
            ),
        ),
    ),
)
