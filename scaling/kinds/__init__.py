"""What each kind of sweep ends in: one file per kind, from the table's rows to laws and pictures."""
