"""Everything that runs Hongbao elsewhere (docs/deploy.md). Of it only the dashboards are Python, and nothing imports them."""
