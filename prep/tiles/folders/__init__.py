"""How a data folder is read: its listing, what names of folders say, which layout they make."""
