"""What is open between the programme and one phone, and who a text from a phone is from."""
