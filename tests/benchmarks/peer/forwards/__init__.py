"""An app of RapidSMS that tells a supervisor."""
