"""What tensors take at most while something runs, as torch's own profiler counts it: the same on any machine."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def most_allocated(run: Callable[[], object]) -> int:
    """The most bytes that tensors made by `run` held at once on the CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    held = most = 0
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]  # it ran
    for event in sorted((one for one in events if one.name() == "[memory]"), key=lambda one: one.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
