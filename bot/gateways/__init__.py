"""The gateways: one file each, beside `base.py` which says what a gateway is."""
