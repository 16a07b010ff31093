"""What all sections share."""
