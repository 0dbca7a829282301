"""Where a store lies: a folder on a local disk or a prefix in object storage."""
