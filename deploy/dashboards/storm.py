"""The storm: who claims, what they are answered, and how fast."""

from deploy.dashboards.panels import Dashboard, Panel, Query, Row

_HTTP = "hongbao_http_request_seconds_bucket"
_CLAIM_ROUTES = 'route=~"/v1/packets/{packet_id}/claims|/v1/campaigns/{campaign_id}/grabs|/v1/claims|/v1/grabs"'


def _quantile(quantile: str, selected: str = "") -> str:
    return f"histogram_quantile({quantile}, sum by (le) (rate({_HTTP}{selected}[$__rate_interval])))"


STORM = Dashboard(
    name="storm",
    title="storm",
    description="Claims and grabs, what they are answered, and how fast. For the hour in which everybody taps.",
    time_from="now-15m",
    rows=(
        Row(
            "Now",
            (
                Panel(
                    title="Shares given",
                    description="Claims won per second.",
                    unit="reqps",
                    queries=(Query('sum(rate(hongbao_claims_total{outcome="claimed"}[$__rate_interval]))'),),
                    runbook="hot-packet",
                    kind="stat",
                ),
                Panel(
                    title="Answered",
                    description="Requests of all kinds per second.",
                    unit="reqps",
                    queries=(Query("sum(rate(hongbao_http_requests_total[$__rate_interval]))"),),
                    runbook="hot-packet",
                    kind="stat",
                ),
                Panel(
                    title="Answered 503",
                    description="Of all answers in the last five minutes.",
                    unit="percentunit",
                    queries=(
                        Query(
                            '(sum(rate(hongbao_http_requests_total{status="503"}[5m])) or vector(0))'
                            " / sum(rate(hongbao_http_requests_total[5m]))"
                        ),
                    ),
                    runbook="hot-packet",
                    kind="stat",
                    red_from=0.05,
                    decimals=1,
                ),
                Panel(
                    title="p99 of a claim",
                    description="From a claim's headers to its answer.",
                    unit="s",
                    queries=(Query(_quantile("0.99", f"{{{_CLAIM_ROUTES}}}")),),
                    runbook="hot-packet",
                    kind="stat",
                    red_from=0.5,
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
                    title="Ledger behind",
                    description="The lane that is furthest behind.",
                    unit="s",
                    queries=(Query("max(hongbao_persister_lag_seconds)"),),
                    runbook="persister-behind",
                    kind="stat",
                    red_from=10,
                ),
            ),
        ),
        Row(
            "Answers",
            (
                Panel(
                    title="Claims by outcome",
                    description="Losing is a normal outcome. Only busy is a refusal: the backlog is at its bound.",
                    unit="reqps",
                    queries=(Query("sum by (outcome) (rate(hongbao_claims_total[$__rate_interval]))", "{{outcome}}"),),
                    runbook="hot-packet",
                    is_stacked=True,
                ),
                Panel(
                    title="Grabs in campaigns by outcome",
                    description="Taps in a packet rain. A tap may ask several buckets, each of which is a claim.",
                    unit="reqps",
                    queries=(Query("sum by (outcome) (rate(hongbao_grabs_total[$__rate_interval]))", "{{outcome}}"),),
                    runbook="hot-packet",
                    is_stacked=True,
                ),
                Panel(
                    title="Refused at a bound",
                    description="Answered 503 or 429, or turned away, by the bound that was reached.",
                    unit="reqps",
                    queries=(Query("sum by (reason) (rate(hongbao_refusals_total[$__rate_interval]))", "{{reason}}"),),
                    runbook="hot-packet",
                ),
                Panel(
                    title="Answers by status",
                    description="503: try again in a moment. 429: asked too often. 500 is always a bug.",
                    unit="reqps",
                    queries=(
                        Query("sum by (status) (rate(hongbao_http_requests_total[$__rate_interval]))", "{{status}}"),
                    ),
                    runbook="hot-packet",
                ),
                Panel(
                    title="Requests by route",
                    description="The ten that are asked most.",
                    unit="reqps",
                    queries=(
                        Query(
                            "topk(10, sum by (method, route) (rate(hongbao_http_requests_total[$__rate_interval])))",
                            "{{method}} {{route}}",
                        ),
                    ),
                    runbook="hot-packet",
                ),
                Panel(
                    title="Not confirmed in time",
                    description="These claims stand; users get 503 and ask again.",
                    unit="reqps",
                    queries=(Query("sum by (ack) (rate(hongbao_unconfirmed_total[$__rate_interval]))", "{{ack}}"),),
                    runbook="postgres-down",
                ),
            ),
        ),
        Row(
            "How fast",
            (
                Panel(
                    title="Time to a claim's answer",
                    description="From a claim's or a grab's headers to its answer.",
                    unit="s",
                    queries=(
                        Query(_quantile("0.5", f"{{{_CLAIM_ROUTES}}}"), "p50"),
                        Query(_quantile("0.95", f"{{{_CLAIM_ROUTES}}}"), "p95"),
                        Query(_quantile("0.99", f"{{{_CLAIM_ROUTES}}}"), "p99"),
                    ),
                    runbook="hot-packet",
                ),
                Panel(
                    title="Claims per call",
                    description="How many claims one call of the claim script decides. More per call is cheaper.",
                    unit="none",
                    queries=(
                        Query(
                            "sum(rate(hongbao_claim_batch_size_sum[$__rate_interval]))"
                            " / sum(rate(hongbao_claim_batch_size_count[$__rate_interval]))",
                            "mean",
                        ),
                    ),
                    runbook="hot-packet",
                ),
                Panel(
                    title="Round trip of a script",
                    description="One call decides many claims. Slow calls mean a busy Redis, or a slow way to it.",
                    unit="s",
                    queries=(
                        Query(
                            "histogram_quantile(0.99, sum by (le, script) "
                            "(rate(hongbao_script_seconds_bucket[$__rate_interval])))",
                            "{{script}} p99",
                        ),
                    ),
                    runbook="hot-packet",
                ),
                Panel(
                    title="Wait for an acknowledgement",
                    description="After Redis has decided. Nobody waits in memory mode.",
                    unit="s",
                    queries=(
                        Query(
                            "histogram_quantile(0.99, sum by (le, ack) "
                            "(rate(hongbao_ack_seconds_bucket[$__rate_interval])))",
                            "{{ack}} p99",
                        ),
                    ),
                    runbook="postgres-down",
                ),
            ),
        ),
    ),
)
