"""What every part is measured with: servers, load, clocks, books. What is measured is in `parts`."""
