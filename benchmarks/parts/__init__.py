"""The measurements: one module per part of the report."""
