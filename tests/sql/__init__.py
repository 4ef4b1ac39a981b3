"""The grammar walk of the column reader: shapes of SQL in seven dialects."""
