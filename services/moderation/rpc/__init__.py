"""One file an RPC: validate, apply the domain's rules, ask the store, answer."""
