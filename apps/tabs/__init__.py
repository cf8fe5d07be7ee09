"""The studio's page: a module a tab, and what the tabs share."""
