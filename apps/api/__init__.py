"""OpenAI's API over the queue of runs and the models that answer: routes, the shapes of requests and answers."""
