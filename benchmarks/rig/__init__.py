"""The tools of every part: servers, load, clocks, books. The measurements are in `parts`."""
