"""The modules that the stages are made of; each knows one thing."""
