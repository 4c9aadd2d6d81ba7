"""`breve upgrade`."""

from __future__ import annotations

from pathlib import Path

import click

from breve.cli.command import Command


@click.command(cls=Command)
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
def upgrade(source: str, target: str) -> None:
    """Rewrite an old net or solver file in the current form.

    A text file (net or solver) gives a text file, without its comments; a binary net (.caffemodel) a binary one, or
    HDF5 where OUT ends in .h5. OUT may be IN.
    """
    from breve.proto.files import is_text, read_bytes

    is_old = _upgrade_text(source, target) if is_text(read_bytes(source)) else _upgrade_binary(source, target)
    click.echo(f"{source} was {'in an old form' if is_old else 'in the current form already'}; wrote {target}")


def _upgrade_text(source: str, target: str) -> bool:
    from breve.proto import NetParameter, SolverParameter
    from breve.proto.files import whole_file
    from breve.proto.text import parse, read_text, to_text
    from breve.proto.tokens import field_lines
    from breve.proto.upgrade import needs_upgrade, upgrade_net, upgrade_solver

    text = read_text(source)
    solver_fields = set(SolverParameter.DESCRIPTOR.fields_by_name) - set(NetParameter.DESCRIPTOR.fields_by_name)
    is_solver = bool(field_lines(text, solver_fields))
    message = parse(text, SolverParameter if is_solver else NetParameter, source)
    is_old = needs_upgrade(message)
    (upgrade_solver if is_solver else upgrade_net)(message, where=source)
    with whole_file(target) as temporary:
        Path(temporary).write_text(to_text(message), encoding="utf-8")
    return is_old


def _upgrade_binary(source: str, target: str) -> bool:
    from breve.proto.binary import read_message, write_net
    from breve.proto.schema import WIRE_MESSAGES
    from breve.proto.upgrade import needs_upgrade, upgrade_net

    message = read_message(source, WIRE_MESSAGES["NetParameter"], "a binary net (.caffemodel)")
    is_old = needs_upgrade(message)
    upgrade_net(message, where=source)
    write_net(message, target)
    return is_old
