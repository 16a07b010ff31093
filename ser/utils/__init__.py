"""What every package uses: command lines, errors, hashing, files, downloads."""
