"""How the conversations of a step are shared out: over processes, and over the micro-batches of each."""

from configs import InputError


def check_global_batch(conversations_per_step: int, accumulation_steps: int | None, processes: int) -> None:
    """Refuses a step that cannot be shared out evenly: some process or micro-batch would wait for the others.

    Raises:
        InputError: processes x accumulation steps do not divide the conversations.

    """
    parts = processes * (accumulation_steps or 1)
    if conversations_per_step % parts:
        below = conversations_per_step // parts * parts
        nearest = f"{below} or {below + parts}" if below else f"{parts}"
        shares = f"{processes} process{'es' if processes > 1 else ''} x {accumulation_steps or 1} accumulation steps"
        raise InputError(
            f"conversations_per_step: found {conversations_per_step}, expected a multiple of {parts} ({shares}): "
            f"set {nearest}"
        )
