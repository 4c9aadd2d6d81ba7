"""`breve convert-mnist`, `breve convert-imageset` and `breve compute-mean`: data into Caffe's forms."""

from __future__ import annotations

import click

from breve.cli.bar import counted
from breve.cli.command import Command
from breve.errors import DataError

_overwrite = click.option("--overwrite", is_flag=True, help="Replace an older database.")
_pixels = click.IntRange(min=1)


@click.command("convert-mnist", cls=Command)
@click.argument("images")
@click.argument("labels")
@click.argument("database")
@click.option("--pad", "size", type=_pixels, metavar="SIZE", help="Put each digit amid SIZE x SIZE pixels.")
@_overwrite
def convert_mnist(images: str, labels: str, database: str, size: int | None, overwrite: bool) -> None:
    """Make an LMDB of MNIST's IDX files.

    IMAGES and LABELS are IDX files, gzipped or not; DATABASE is the folder to write.
    """
    from breve.data import mnist

    digits = mnist.load_pair(images, labels)
    count = mnist.write_database(mnist.pad(digits, size) if size else digits, database, overwrite=overwrite)
    click.echo(f"wrote {count:,} digits to {database}")


@click.command("convert-imageset", cls=Command)
@click.argument("root")
@click.argument("listfile")
@click.argument("database")
@click.option("--resize_height", type=_pixels, metavar="N", help="Resize to this height (with --resize_width).")
@click.option("--resize_width", type=_pixels, metavar="N", help="Resize to this width.")
@click.option("--gray", is_flag=True, help="Make grey images of one channel.")
@click.option("--shuffle", is_flag=True, help="Mix the list, the same way every time.")
@click.option("--encoded", is_flag=True, help="Keep the files' own encoding in place of pixels.")
@click.option("--encode_type", default="", metavar="TYPE", help="Encode as jpg or png.")
@click.option("--check_size", is_flag=True, help="Refuse images of different sizes.")
@click.option("--skip", is_flag=True, help="Pass over files that cannot be read, naming each.")
@_overwrite
def convert_imageset(
    root: str,
    listfile: str,
    database: str,
    resize_height: int | None,
    resize_width: int | None,
    gray: bool,
    shuffle: bool,
    encoded: bool,
    encode_type: str,
    check_size: bool,
    skip: bool,
    overwrite: bool,
) -> None:
    """Make an LMDB of image files and their labels.

    LISTFILE has a line `NAME LABEL` for each image; ROOT, with its last slash, goes before each NAME; DATABASE is the
    folder to write.
    """
    if (resize_height is None) != (resize_width is None):
        raise click.UsageError("give --resize_height and --resize_width together")
    from breve.data.images import write_imageset

    def warn(error: DataError) -> None:
        click.echo(f"skipped: {error}", err=True)

    with counted("converting") as progress:
        count = write_imageset(
            listfile,
            root,
            database,
            size=(resize_height, resize_width) if resize_height and resize_width else None,
            gray=gray,
            shuffle=shuffle,
            encoded=encoded,
            encode_type=encode_type,
            check_size=check_size,
            overwrite=overwrite,
            progress=progress,
            skip=warn if skip else None,
        )
    click.echo(f"wrote {count:,} images to {database}")


@click.command("compute-mean", cls=Command)
@click.argument("database")
@click.argument("mean_file", required=False)
@click.option("--backend", type=click.Choice(["lmdb", "leveldb"]), default="lmdb", show_default=True, help="Its kind.")
def compute_mean(database: str, mean_file: str | None, backend: str) -> None:
    """Average the images of a database into a mean file.

    The mean of each channel is printed; the mean image goes to MEAN_FILE (.binaryproto) if one is given.
    """
    from breve.data.images import compute_mean as mean_of
    from breve.proto.binary import write_mean

    with counted("averaging") as progress:
        mean = mean_of(database, backend.upper(), progress=progress)
    if mean_file is not None:
        write_mean(mean, mean_file)
        click.echo(f"wrote {' x '.join(map(str, mean.shape))} to {mean_file}")
    for channel, image in enumerate(mean):
        click.echo(f"mean_value channel [{channel}]: {image.mean():.6g}")
