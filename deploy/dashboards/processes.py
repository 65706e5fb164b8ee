"""The processes and their servers: who runs, who fails, and how long everything takes."""

from deploy.dashboards.panels import Dashboard, Panel, Query, Row

PROCESSES = Dashboard(
    name="processes",
    title="processes",
    description="Who runs, who fails, and how long every request takes.",
    rows=(
        Row(
            "Now",
            (
                Panel(
                    title="Processes",
                    description="Kinds of processes that have started and are scraped: serve, persist and sweep.",
                    unit="none",
                    queries=(Query("count(count by (process) (hongbao_process_starts_total))"),),
                    runbook="redis-lost",
                    kind="stat",
                ),
                Panel(
                    title="Answered 500",
                    description="In an hour. Each is a bug: the log has its traceback.",
                    unit="none",
                    queries=(Query('sum(increase(hongbao_http_requests_total{status="500"}[1h])) or vector(0)'),),
                    runbook="imbalance",
                    kind="stat",
                    red_from=1,
                    decimals=0,
                ),
                Panel(
                    title="Errors of loops",
                    description="In five minutes. After each of them the loop went on.",
                    unit="none",
                    queries=(Query("sum(increase(hongbao_loop_errors_total[5m]))"),),
                    runbook="postgres-down",
                    kind="stat",
                    red_from=20,
                    decimals=0,
                ),
                Panel(
                    title="Failures of servers",
                    description="In five minutes: Redis or Postgres did not answer, or refused.",
                    unit="none",
                    queries=(Query("sum(increase(hongbao_server_failures_total[5m]))"),),
                    runbook="server-refuses",
                    kind="stat",
                    red_from=1,
                    decimals=0,
                ),
                Panel(
                    title="The certificate is valid for",
                    description="The API's own. No data if TLS is off: then a proxy in front has the certificate.",
                    unit="s",
                    queries=(Query("min(hongbao_tls_certificate_ends_timestamp_seconds > 0) - time()"),),
                    runbook="server-refuses",
                    kind="stat",
                ),
                Panel(
                    title="p99 of all requests",
                    description="From a request's headers to its answer.",
                    unit="s",
                    queries=(
                        Query(
                            "histogram_quantile(0.99, sum by (le) "
                            "(rate(hongbao_http_request_seconds_bucket[$__rate_interval])))"
                        ),
                    ),
                    runbook="hot-packet",
                    kind="stat",
                ),
            ),
        ),
        Row(
            "Who runs, and who fails",
            (
                Panel(
                    title="Starts",
                    description="In an hour, by what the process does. One that starts often dies often.",
                    unit="none",
                    queries=(Query("sum by (process) (increase(hongbao_process_starts_total[1h]))", "{{process}}"),),
                    runbook="server-refuses",
                ),
                Panel(
                    title="Errors of loops, by loop",
                    description="After each of them the loop went on.",
                    unit="reqps",
                    queries=(Query("sum by (loop) (rate(hongbao_loop_errors_total[$__rate_interval]))", "{{loop}}"),),
                    runbook="postgres-down",
                ),
                Panel(
                    title="Failures of servers, by code",
                    description="By the code of the answer, or silent.",
                    unit="reqps",
                    queries=(
                        Query(
                            "sum by (server, code) (rate(hongbao_server_failures_total[$__rate_interval]))",
                            "{{server}} {{code}}",
                        ),
                    ),
                    runbook="server-refuses",
                ),
                Panel(
                    title="Requests in flight",
                    description="As Little's law has it: seconds spent in requests, per second.",
                    unit="none",
                    queries=(Query("sum(rate(hongbao_http_request_seconds_sum[$__rate_interval]))", "in flight"),),
                    runbook="hot-packet",
                ),
                Panel(
                    title="Slowest routes",
                    description="The mean time of a request. The ten slowest.",
                    unit="s",
                    queries=(
                        Query(
                            "topk(10, sum by (method, route) (rate(hongbao_http_request_seconds_sum[$__rate_interval]))"
                            " / sum by (method, route) (rate(hongbao_http_request_seconds_count[$__rate_interval])))",
                            "{{method}} {{route}}",
                        ),
                    ),
                    runbook="hot-packet",
                ),
                Panel(
                    title="Mean round trip of a script",
                    description="How long Redis takes, by script.",
                    unit="s",
                    queries=(
                        Query(
                            "sum by (script) (rate(hongbao_script_seconds_sum[$__rate_interval]))"
                            " / sum by (script) (rate(hongbao_script_seconds_count[$__rate_interval]))",
                            "{{script}}",
                        ),
                    ),
                    runbook="hot-packet",
                ),
            ),
        ),
        Row(
            "How long requests take",
            (
                Panel(
                    title="Latency of all requests",
                    description="How many requests took how long: darker is more.",
                    unit="s",
                    queries=(
                        Query(
                            "sum by (le) (increase(hongbao_http_request_seconds_bucket[$__rate_interval]))", "{{le}}"
                        ),
                    ),
                    runbook="hot-packet",
                    kind="heatmap",
                ),
            ),
        ),
    ),
)
