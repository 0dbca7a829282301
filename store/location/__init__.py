"""Where a store is: a folder on a local disk or a prefix in object storage."""
