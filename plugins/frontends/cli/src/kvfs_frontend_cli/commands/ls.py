"""``kvfs ls``"""

from __future__ import annotations

import os
from typing import Annotated

from cyclopts import Parameter

from kvfs_frontend_cli._exits import Exit
from kvfs_frontend_cli._listing import Entry, JSONLister, Lister, LongLister, Walk
from kvfs_frontend_cli._locate import Place
from kvfs_frontend_cli._opening import opened
from kvfs_frontend_cli._progress import fetching
from kvfs_frontend_cli.commands._options import AsJSONLines, ShowProgress


def _flag(*names: str, help: str) -> Parameter:
    return Parameter(name=names, help=help)


def ls(
    volume: str,
    path: str = "/",
    /,
    *,
    long: Annotated[bool, _flag("-l", "--long", help="Attributes, one entry a line.")] = False,
    recursive: Annotated[bool, _flag("-R", "--recursive", help="All that is below.")] = False,
    all_: Annotated[bool, _flag("-a", "--all", help="Names that begin with a dot too.")] = False,
    human: Annotated[bool, _flag("-h", "--human", help="Sizes as 1.5 KiB.")] = False,
    directory: Annotated[
        bool, _flag("-d", "--directory", help="The directory itself, not what is in it.")
    ] = False,
    numeric: Annotated[
        bool, _flag("-n", "--numeric", help="Numbers of users and groups, not names.")
    ] = False,
    unsorted: Annotated[
        bool, _flag("-U", "--unsorted", help="In the order in which they are stored.")
    ] = False,
    json: AsJSONLines = False,
    progress: ShowProgress = None,
    place: Place = Place(),  # noqa: B008 (frozen)
) -> int:
    """List a directory of a volume, or a file.

    Sorted by name; a directory of over 50,000 entries is printed as it is stored, so that memory
    stays small.  JSON has every attribute and every entry, whatever its name begins with.

    :param volume: The volume.
    :param path: What to list; the root if left out.
    """
    with opened(volume, place) as source, fetching(source, progress):
        files = source.files(wait=True)
        follow = not (long or numeric or json) or path.endswith("/")
        attributes = files.open_path(os.fsencode(path), follow=follow)
        name = os.fsencode(path).strip(b"/")
        lister: Lister
        if json:
            lister = JSONLister(files)
        elif long or numeric:
            lister = LongLister(files, human=human, numeric=numeric)
        else:
            lister = Lister(files)
        if directory or not attributes.is_directory:
            lister.show(Entry(name or b"/", name, attributes))
            return Exit.OK
        walk = Walk(files, lister, recursive=recursive, sort=not unsorted, hidden=all_ or json)
        code = walk.run(name, attributes.inode)
        files.close()
        return code
