"""What runs Hongbao elsewhere (docs/deploy.md). Only the dashboards are Python, and nothing of ours imports them."""
