"""What it meant: tables, statistics, figures and reports from finished runs; never imports torch."""
