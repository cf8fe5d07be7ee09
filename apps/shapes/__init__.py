"""What requests and answers of the service look like: bodies, objects, errors, pages, streams, figures."""
