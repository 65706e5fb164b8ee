"""The ledger: how far it is behind, and what does not get into it."""

from deploy.dashboards.panels import Dashboard, Panel, Query, Row

LEDGER = Dashboard(
    name="ledger",
    title="ledger",
    description="From the lanes' streams into the books: how far behind, what is set aside, and what was rebuilt.",
    rows=(
        Row(
            "Now",
            (
                Panel(
                    title="Ledger behind",
                    description="The lane that is furthest behind: the age of its oldest change that is not booked.",
                    unit="s",
                    queries=(Query("max(hongbao_persister_lag_seconds)"),),
                    runbook="persister-behind",
                    kind="stat",
                    red_from=10,
                ),
                Panel(
                    title="Not booked",
                    description="Changes of all lanes that the ledger has not applied.",
                    unit="none",
                    queries=(Query("sum(max by (lane) (hongbao_persister_lag_events))"),),
                    runbook="persister-behind",
                    kind="stat",
                ),
                Panel(
                    title="Fullest lane",
                    description="Its backlog. Red at half of HONGBAO_BACKLOG_MAX, where it refuses claims.",
                    unit="none",
                    queries=(Query("max(hongbao_backlog)"),),
                    runbook="persister-behind",
                    kind="stat",
                    red_from=500_000,
                ),
                Panel(
                    title="Lanes that do not serve",
                    description="Their Redis does not answer, or does not agree with the ledger.",
                    unit="none",
                    queries=(Query("sum(max by (lane) (hongbao_lane_fenced))"),),
                    runbook="redis-lost",
                    kind="stat",
                    red_from=1,
                ),
                Panel(
                    title="Lanes with a bad entry",
                    description="An entry of the stream stops the lane.",
                    unit="none",
                    queries=(Query("sum(max by (lane) (hongbao_lane_bad_entry > bool 0))"),),
                    runbook="bad-entry",
                    kind="stat",
                    red_from=1,
                ),
                Panel(
                    title="In quarantine",
                    description="Changes that break a rule of the ledger and wait for a decision.",
                    unit="none",
                    queries=(Query("sum(max by (lane) (hongbao_quarantine_open))"),),
                    runbook="quarantine",
                    kind="stat",
                    red_from=1,
                ),
            ),
        ),
        Row(
            "Into the books",
            (
                Panel(
                    title="Given and booked",
                    description="Changes are claims, openings and ends. Both lines agree, but for the lag.",
                    unit="reqps",
                    queries=(
                        Query('sum(rate(hongbao_claims_total{outcome="claimed"}[$__rate_interval]))', "shares given"),
                        Query(
                            "sum(rate(hongbao_persisted_events_total[$__rate_interval]))",
                            "changes booked, of all kinds",
                        ),
                    ),
                    runbook="postgres-down",
                ),
                Panel(
                    title="Booked, by lane",
                    description="Changes per second. A lane at 0 beside busy ones has no persister.",
                    unit="reqps",
                    queries=(
                        Query(
                            "sum by (lane) (rate(hongbao_persisted_events_total[$__rate_interval]))", "lane {{lane}}"
                        ),
                    ),
                    runbook="persister-behind",
                ),
                Panel(
                    title="Behind, by lane",
                    description="Age of the oldest change that the ledger has not applied.",
                    unit="s",
                    queries=(Query("max by (lane) (hongbao_persister_lag_seconds)", "lane {{lane}}"),),
                    runbook="persister-behind",
                ),
                Panel(
                    title="Not applied, by lane",
                    description="Changes that the ledger lacks.",
                    unit="none",
                    queries=(Query("max by (lane) (hongbao_persister_lag_events)", "lane {{lane}}"),),
                    runbook="persister-behind",
                ),
                Panel(
                    title="Backlog, by lane",
                    description="Changes in the stream. At HONGBAO_BACKLOG_MAX a lane refuses claims.",
                    unit="none",
                    queries=(Query("max by (lane) (hongbao_backlog)", "lane {{lane}}"),),
                    runbook="persister-behind",
                ),
                Panel(
                    title="Claims refused for the backlog",
                    description="Their lane is at its bound. Should be flat.",
                    unit="reqps",
                    queries=(
                        Query('sum(rate(hongbao_claims_total{outcome="busy"}[$__rate_interval]))', "refused as busy"),
                    ),
                    runbook="persister-behind",
                ),
            ),
        ),
        Row(
            "What should be flat",
            (
                Panel(
                    title="Set aside",
                    description="Changes that broke a rule of the ledger, in an hour.",
                    unit="none",
                    queries=(Query("sum by (lane) (increase(hongbao_quarantined_total[1h]))", "lane {{lane}}"),),
                    runbook="quarantine",
                ),
                Panel(
                    title="In quarantine, by lane",
                    description="They are neither retried nor written off.",
                    unit="none",
                    queries=(Query("max by (lane) (hongbao_quarantine_open)", "lane {{lane}}"),),
                    runbook="quarantine",
                ),
                Panel(
                    title="Rebuilt",
                    description="Lanes that were rebuilt from the ledger, in an hour. Acknowledged claims may be lost.",
                    unit="none",
                    queries=(Query("sum by (lane) (increase(hongbao_recoveries_total[1h]))", "lane {{lane}}"),),
                    runbook="redis-lost",
                ),
                Panel(
                    title="Fenced",
                    description="1 while a lane refuses claims.",
                    unit="none",
                    queries=(Query("max by (lane) (hongbao_lane_fenced)", "lane {{lane}}"),),
                    runbook="redis-lost",
                ),
                Panel(
                    title="Bad entry",
                    description="The position of the entry that stops a lane; 0 if there is none.",
                    unit="none",
                    queries=(Query("max by (lane) (hongbao_lane_bad_entry)", "lane {{lane}}"),),
                    runbook="bad-entry",
                ),
            ),
        ),
    ),
)
