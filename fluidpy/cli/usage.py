"""Usage lines of our own, where words of a command line mean more than a list of arguments says."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


def command_with_usage(usage: str) -> type[TyperCommand]:
    """A command class whose usage line is `usage` and its options; its arguments stay hidden."""

    class CommandWithUsage(TyperCommand):
        def collect_usage_pieces(self, ctx: Any) -> list[str]:
            return [usage, "[OPTIONS]"]

    return CommandWithUsage
