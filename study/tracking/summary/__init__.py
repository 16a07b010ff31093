"""What a parent run says of its trials: scores of the chosen one, counts, a description, a table and a figure."""
