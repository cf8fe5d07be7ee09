"""Folders that other tools open: saved, loaded, merged with a receipt, described by a card, uploaded to the Hub."""
