"""From raw results to tables, goals and pictures. Nothing here measures."""
