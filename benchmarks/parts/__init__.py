"""What is measured: one module per part of the report."""
