"""The table of ``kvfs bench``: names, one line each, examples; the code is imported for one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from cyclopts import App

GROUP: Final = "Measure"
SUMMARY: Final = "Measure KVFS beside the local disk and its peers, on this machine."
DETAIL: Final = (
    "Contestants take turns, every answer is compared with the truth, and every row says in which "
    "state the caches were. Runs best as root, who may drop the kernel's caches and mount images."
)


@attrs.frozen(kw_only=True)
class Command:
    """One command of the group."""

    name: str
    target: str
    """``module:function`` below ``kvfs_bench.commands``."""
    summary: str
    detail: str
    examples: tuple[tuple[str, str], ...]
    """What to type, and what it does."""

    @property
    def epilogue(self) -> str:
        """The examples as help shows them."""
        width = max(len(typed) for typed, _ in self.examples)
        lines = [f"  {typed:<{width}}  {does}" for typed, does in self.examples]
        return "\n".join(["Examples:", *lines])


COMMANDS: Final = (
    Command(
        name="bench mount",
        target="mount:mount",
        summary="Read the same files through every engine and frontend, and through others.",
        detail=(
            "find, listings, reading in several orders by a compiled reader and by Python, tar, "
            "grep, an import and git status; against ext4, tmpfs, squashfuse_ll, ratarmount, "
            "archivemount and a C server over the same records, whichever can be had. "
            "At full scale it takes 15 GB of disk, as much memory, and an hour or two."
        ),
        examples=(
            ("kvfs bench mount --quick", "all of it, small: two minutes"),
            ("kvfs bench mount --html report.html", "in full, as a page with plots"),
            ("kvfs bench mount --work read-c --work tar --rounds 5", "two works, more often"),
            ("kvfs bench mount --scale 0.1 --cpu 0 --json out.json", "all on one core"),
        ),
    ),
    Command(
        name="bench kv",
        target="kv:kv",
        summary="Every installed key-value engine, embedded or a server, in one harness.",
        detail=(
            "File-system work: bulk ingest, lookups hot and cold, readdir, guarded creates and "
            "renames, rmtree; values of 1 to 64 KiB; YCSB A to F. One client, and many threads and "
            "processes; latencies up to p99.9, at fixed rates from the intended start; bytes on "
            "disk and written, memory, opening again after a clean close and a kill. Servers are "
            "started and stopped by it. Every answer is checked. Levels of durability never share "
            "a table. About 1 minute per engine, round and level at full scale."
        ),
        examples=(
            ("kvfs bench kv --quick", "everything that is installed, small"),
            ("kvfs bench kv --out report", "in full: report.json, .md and .html with plots"),
            ("kvfs bench kv --engine lmdb --engine sqlite --workload ycsb-a", "two, at one work"),
            ("kvfs bench kv --durability process --durability power", "a table for each level"),
            ("kvfs bench kv --seconds 5 --rounds 5 --files 500000", "longer, and larger"),
            ("kvfs bench kv --engine redis --settings redis.url=redis://host", "your own server"),
        ),
    ),
    Command(
        name="bench size",
        target="size:size",
        summary="Memory and disk of every engine as formulas, and how well they predict.",
        detail=(
            "Volumes of 1,000 to 100,000 files, of different sizes and lengths of names, are "
            "really ingested, compacted and emptied; formulas in files, bytes, name bytes and "
            "extents are fitted to what they take on the disk and in memory, and then predict "
            "a volume of three times as many files and Python's standard library. The memory of "
            "kvfs mount by tarballs, open files and inodes. One to two minutes per engine; five "
            "for one whose server takes ten seconds to start."
        ),
        examples=(
            ("kvfs bench size --quick", "everything that is installed, small"),
            ("kvfs bench size --out sizes", "in full: sizes.json, .md and .html"),
            ("kvfs bench size --engine lmdb --scale 10 --seconds 900", "up to 3,000,000 files"),
        ),
    ),
    Command(
        name="bench store",
        target="store:store",
        summary="An object store: whether it keeps to the contract, and how fast it is.",
        detail=(
            "First the checks, as a table with the reasons of what fails. Then small and large "
            "objects, listings and ranges by one client and by many, with latencies up to p99.9, "
            "through every driver that takes the URL. Every answer is compared. All that is "
            "written is below a prefix of its own, and removed at the end, also after Ctrl-C."
        ),
        examples=(
            ("kvfs bench store s3://bucket/prefix --quick", "checks, and a few seconds of each"),
            ("kvfs bench store s3://bucket --html store.html", "in full, as a page with plots"),
            ("kvfs bench store s3://bucket --backing s3 --set region=eu-central-1", "one driver"),
        ),
    ),
    Command(
        name="bench compare",
        target="compare:compare",
        summary="What changed between two results beyond noise.",
        detail=(
            "Takes what any command of this group wrote with --json. Each metric of both is "
            "compared over its rounds by Welch's t-test on logarithms; the p-values are adjusted "
            "together for the number of metrics (Benjamini-Hochberg, 5 %), so that not every "
            "twentieth is called a change for nothing. Fewer than two rounds: nothing is said. "
            "Results of different machines, sizes or durability are refused."
        ),
        examples=(
            ("kvfs bench compare before.json after.json", "what changed, the largest first"),
            ("kvfs bench compare before.json after.json --fail-if-slower 10", "for CI"),
            ("kvfs bench compare before.json after.json --force --all", "everything, in any case"),
        ),
    ),
    Command(
        name="bench requests",
        target="requests:requests",
        summary="What a request costs the daemon: in the engine, the model and the binding.",
        detail="LOOKUP, GETATTR, READ and READDIRPLUS over 20,000 files, without a mount.",
        examples=(
            ("kvfs bench requests --quick", "small: seconds"),
            ("kvfs bench requests --cpu 0 --rounds 9", "on one core, more often"),
        ),
    ),
    Command(
        name="bench ingest",
        target="ingest:ingest",
        summary="Fetch one tarball of small files, against tar xf and ratarmount's index.",
        detail="100,000 files of 1-64 KiB; 14 GB of disk at full scale.",
        examples=(
            ("kvfs bench ingest --quick", "small: seconds"),
            ("kvfs bench ingest --scratch /disk/bench --keep", "on another disk; inputs stay"),
        ),
    ),
    Command(
        name="bench large",
        target="large:large",
        summary="Fetch, list and read large tarballs, and watch the daemon's memory.",
        detail="Up to 500,000 files in 5,000 directories, and 1,000,000 files in one.",
        examples=(
            ("kvfs bench large --quick", "small: seconds"),
            ("kvfs bench large --rounds 1 --markdown out.md", "once, as Markdown"),
        ),
    ),
    Command(
        name="bench catalogue",
        target="catalogue:catalogue",
        summary="Mount and list a folder of very many tarballs.",
        detail="100,000 tarballs of one tiny file each, with no cache and with one.",
        examples=(
            ("kvfs bench catalogue --quick", "small: seconds"),
            ("kvfs bench catalogue --rounds 5 --json out.json", "more rounds, as JSON"),
        ),
    ),
)
"""A command that is added later is a module of ``kvfs_bench.commands`` and an entry here."""


def add(app: App) -> None:
    """Register the group and its commands."""
    from cyclopts import App, Group

    bench = App(
        name="bench",
        help=f"{SUMMARY}\n\n{DETAIL}",
        help_epilogue="",
        help_format="plaintext",
        group=Group(GROUP, sort_key=100),
    )
    for command in COMMANDS:
        bench.command(
            f"kvfs_bench.commands.{command.target}",
            name=command.name.partition(" ")[2],
            help=f"{command.summary}\n\n{command.detail}",
            help_epilogue=command.epilogue,
            help_format="plaintext",
        )
    app.command(bench)
