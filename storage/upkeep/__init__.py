"""What an operator does to the database as a whole: make and migrate it, back it up, restore it, ask its log."""
