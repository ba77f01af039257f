"""The process that sends: it looks for work in the database, hands texts to gateways and writes down what came of it."""
