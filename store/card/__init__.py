"""The data card of a store: what its pictures are, in numbers, for a person and for a program."""
