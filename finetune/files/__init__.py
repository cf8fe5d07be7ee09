"""What lies on the disk or on the Hub, as records that know their place."""
