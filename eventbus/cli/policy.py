"""The commands ``eventbus policy``: whether a policy can be read, and what it says."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from eventbus.cli.commands import made_app
from eventbus.cli.options import Json
from eventbus.cli.streams import printable
from eventbus.errors import InvalidError, PolicyDeniedError
from eventbus.patterns import compile as compile_pattern
from eventbus.policy import SUBSCRIBE, Guard, Policy

File = Annotated[str, typer.Argument(metavar="FILE", help="the policy, as TOML", show_default=False)]

commands = made_app()


@commands.callback()
def about() -> None:
    """Look at a policy before a bus does."""


@commands.command("check", epilog="Example:\n\n\b\n  eventbus policy check policy.toml")
def check(file: File, as_json: Json = False) -> None:
    """Say whether a policy can be read.

    What is wrong with it is one line that names the rule and the key.
    """
    policy = Policy.load(file)
    rules, default = len(policy.rules), policy.default
    if as_json:
        print(json.dumps({"rules": rules, "default": default}))
    else:
        count = f"{rules} rule{'s' * (rules != 1)}"
        print(f"{printable(file)} has {count}; where none speaks the default is to {default}")


@commands.command(
    "explain", epilog="Example:\n\n\b\n  eventbus policy explain policy.toml service:billing events.send orders.eu"
)
def explain(
    file: File,
    actor: Annotated[str, typer.Argument(metavar="ACTOR", help="such as user:anna", show_default=False)],
    action: Annotated[
        str, typer.Argument(metavar="ACTION", help="events.send or events.subscribe", show_default=False)
    ],
    system: Annotated[str, typer.Argument(metavar="SYSTEM", help="or, to subscribe, a pattern", show_default=False)],
    as_json: Json = False,
) -> None:
    """Say which rule decides whether somebody may do something.

    The exit code is 1 if it is denied. A pattern is allowed if the whole of it is; what "deny" rules take out of it is
    not heard all the same.
    """
    policy = Policy.load(file)
    allowed, why = _verdict(policy, actor, action, system)
    print(json.dumps({"allowed": allowed, "why": why}) if as_json else printable(why))
    if not allowed:
        raise typer.Exit(1)


def _verdict(policy: Policy, actor: str, action: str, system: str) -> tuple[bool, str]:
    wanted = compile_pattern(system, "system")
    if wanted.literal:
        return policy.allows(actor, action, system), policy.explain(actor, action, system)
    if action != SUBSCRIBE:
        raise InvalidError(f"{system!r} is a pattern, and only {SUBSCRIBE} is asked for patterns: name a system")
    try:
        Guard(policy, actor).check_subscribe(wanted)
    except PolicyDeniedError as error:
        return False, error.message
    return True, f"{policy.source} lets {actor!r} subscribe to all of {system!r} but what 'deny' rules take out of it"
