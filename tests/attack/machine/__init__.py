"""How commands run as processes that can be killed, limited and left hanging, thousands of them."""
