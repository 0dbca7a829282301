"""The store: the on-disk format of a prepared data set, its readers and writers, and the facts that packages share."""
