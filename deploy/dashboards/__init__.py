"""Grafana's dashboards as code: what is on each, and how it becomes the JSON in ``deploy/compose/grafana/dashboards``.

``python -m deploy.dashboards`` writes the files. Grafana reads them at its start; a test compares them with this code.
"""
