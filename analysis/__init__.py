"""What came out: reads the records, writes tables, figures and the report."""
