"""JSON Schemas of the records, generated from `stream.records`."""
