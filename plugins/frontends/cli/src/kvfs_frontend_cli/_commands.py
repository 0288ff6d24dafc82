"""The table of commands: names, one line each, examples; the code behind one is imported for it."""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen(kw_only=True)
class Command:
    """One command, or one of a group (``config show``)."""

    name: str
    target: str
    """``module:function`` below ``kvfs_frontend_cli.commands``."""
    summary: str
    group: str
    examples: tuple[tuple[str, str], ...]
    """What to type, and what it does."""
    detail: str = ""
    """More about it, below the line."""
    human_h: bool = False
    """``-h`` means human sizes, as in ls(1), and not help."""

    @property
    def epilogue(self) -> str:
        """The examples as help shows them."""
        width = max(len(typed) for typed, _ in self.examples)
        lines = [f"  {typed:<{width}}  {does}" for typed, does in self.examples]
        return "\n".join(["Examples:", *lines])

    @property
    def help(self) -> str:
        """The line, and more about it."""
        return f"{self.summary}\n\n{self.detail}" if self.detail else self.summary


SERVE, LOOK, KEEP, ABOUT = "Mount", "Read without a mount", "Fetch", "Look into"
GROUPS: Final = (SERVE, LOOK, KEEP, ABOUT)
PARENTS: Final = {
    "kv": "Move a volume to another engine.",
    "config": "Explain and print settings.",
}
"""Groups of commands that share their first word."""

COMMANDS: Final = (
    Command(
        name="mount",
        target="mount:mount",
        group=SERVE,
        summary="Mount a volume: every tarball in it appears as a directory.",
        detail=(
            "Nothing is fetched until somebody looks inside. Returns when the mount answers. "
            "What a killed daemon left at the mount point is taken away first."
        ),
        examples=(
            ("kvfs mount tarballs/ /mnt", "in the background"),
            ("kvfs mount -f tarballs/ /mnt", "in the foreground; Ctrl-C unmounts"),
            ("kvfs mount train.toml /mnt -o allow_other", "as configured, for all users"),
            ("kvfs mount tarballs/ /mnt --set volume.refresh=5s", "look for new ones often"),
        ),
    ),
    Command(
        name="umount",
        target="umount:umount",
        group=SERVE,
        summary="Unmount, and wait until the cache is closed.",
        detail=(
            "A mount whose daemon was killed needs no force. With force, files that are open "
            "fail from then on."
        ),
        examples=(
            ("kvfs umount /mnt", "when nobody uses it any more"),
            ("kvfs umount /mnt --force", "now, whoever uses it"),
        ),
    ),
    Command(
        name="status",
        target="status:status",
        group=SERVE,
        summary="Show what is mounted, how full it is and what it is doing.",
        detail=(
            "Memory, ingests under way and metrics are those of the daemon that serves the volume."
        ),
        examples=(
            ("kvfs status", "all mounts of this user"),
            ("kvfs status /mnt", "one, with its tarballs, engine and metrics"),
            ("kvfs status tarballs/ --json", "the same of a volume, mounted or not"),
        ),
    ),
    Command(
        name="ls",
        target="ls:ls",
        group=LOOK,
        summary="List a directory; below a tarball, fetches it.",
        human_h=True,
        detail=(
            "Sorted by name; a directory of over 50,000 entries is printed as it is stored, "
            "so that memory stays small. JSON has every attribute and every entry, hidden or "
            "not. Bytes of names that are not UTF-8 appear in JSON as \\udc80 to \\udcff."
        ),
        examples=(
            ("kvfs ls tarballs/", "the tarballs; fetches nothing"),
            ("kvfs ls -lh tarballs/ a/src", "inside a.tar.gz, with attributes"),
            ("kvfs ls -R --json tarballs/ a | jq .path", "everything below, for a program"),
        ),
    ),
    Command(
        name="cat",
        target="cat:cat",
        group=LOOK,
        summary="Print the contents of files.",
        detail=(
            "Members that have arrived are printed while the rest of their tarball is on its way. "
            "Where that is all that was wanted, the rest is not waited for and nothing of it is "
            "kept: kvfs ingest keeps it."
        ),
        examples=(
            ("kvfs cat tarballs/ a/README", "one file"),
            ("kvfs cat tarballs/ a/x.bin a/y.bin > z.bin", "several, byte for byte"),
        ),
    ),
    Command(
        name="cp",
        target="cp:cp",
        group=LOOK,
        summary="Copy files out of a volume, with all their attributes.",
        detail=(
            "The last argument is the destination: a directory, or the name of the copy. "
            "Keeps mode, times, links, holes and extended attributes, as root also owners and "
            "devices. Nothing is replaced without --force, and no file is ever seen half "
            "copied."
        ),
        examples=(
            ("kvfs cp tarballs/ a/README .", "one file"),
            ("kvfs cp -r tarballs/ a/src a/doc /tmp/here", "directories"),
            ("kvfs cp -r --force tarballs/ a /tmp/here", "over what is there"),
        ),
    ),
    Command(
        name="tar",
        target="tar:tar",
        group=LOOK,
        summary="Write a tarball anew, as it is now.",
        detail=(
            "The same members, contents and attributes, in the same order, uncompressed. One that "
            "was written to is written with its changes, directory by directory; sockets are left "
            "out, since tar has none, and it says how many. What a mount has not committed yet is "
            "not in it: sync first."
        ),
        examples=(
            ("kvfs tar tarballs/ a | tar t", "to standard output"),
            ("kvfs tar tarballs/ a -o copy.tar", "to a file, whole or not at all"),
        ),
    ),
    Command(
        name="ingest",
        target="ingest:ingest",
        group=KEEP,
        summary="Fetch tarballs now, and report what could not be served.",
        detail=("Exits with 0 when every member of every tarball is served."),
        examples=(
            ("kvfs ingest tarballs/ a b", "two of them"),
            ("kvfs ingest tarballs/ --all", "every one"),
            ("kvfs ingest tarballs/ --all --json", "a line of JSON for each"),
        ),
    ),
    Command(
        name="fsck",
        target="fsck:fsck",
        group=KEEP,
        summary="Check the files that were written to a volume, and mend what is wrong.",
        detail=(
            "For volumes without a store, and for tarballs that were written to, while nothing is "
            "mounted; those that were not can be fetched again. A tarball that is to be checked is "
            "fetched if need be. Files that lost their name go to lost+found, under their inode "
            "number; what was harmed in a tarball shows again as it was fetched. "
            "Exits as fsck(8): 0 clean, 1 all mended, 4 something is left, 8 not checked."
        ),
        examples=(
            ("kvfs fsck scratch://work", "say what is wrong, change nothing"),
            ("kvfs fsck scratch://work --repair", "mend it, and look again"),
            ("kvfs fsck scratch://work --json", "a line of JSON for each problem"),
        ),
    ),
    Command(
        name="info",
        target="info:info",
        group=ABOUT,
        summary="Describe a volume, a tarball or a file.",
        detail=(
            "Asking about a volume or a tarball fetches nothing; asking about a file fetches "
            "its tarball."
        ),
        examples=(
            ("kvfs info tarballs/", "the volume"),
            ("kvfs info tarballs/ a", "a tarball: object, state, problems"),
            ("kvfs info tarballs/ a/README --json", "a file: attributes and records"),
        ),
    ),
    Command(
        name="inspect",
        target="inspect:inspect",
        group=ABOUT,
        summary="Print any record of the engine, decoded and raw.",
        detail=(
            "KEY is a path that begins with a slash, or one of A:inode:name, "
            "D:directory:name, D:directory:#slot, E:inode:number, H:inode:directory:#slot, "
            "I:inode, K:inode, O:tarball:u:id, P:tarball:number, T:object or T:id, U:inode, "
            "V:name, W:id, hex:bytes. What is left out from the end stands for all. Of a tarball "
            "that was written to, what is in the store state lies over what is in sealed."
        ),
        examples=(
            ("kvfs inspect tarballs/ /a/README", "the records of a path"),
            ("kvfs inspect tarballs/ I:1", "an inode by number"),
            ("kvfs inspect tarballs/ T:a.tar.gz", "a tarball in the catalogue"),
            ("kvfs inspect tarballs/ V:superblock", "the superblock"),
        ),
    ),
    Command(
        name="dump",
        target="metadata:dump",
        group=ABOUT,
        summary="Write the metadata of a volume without a store, as lines of JSON.",
        detail=(
            "A line for each file: attributes, names, links, extended attributes; no contents: "
            "kvfs kv dump has those, as records of the engine. To standard output if there is "
            "no FILE."
        ),
        examples=(
            ("kvfs dump scratch://work meta.jsonl", "to a file, whole or not at all"),
            ("kvfs dump scratch://work | jq .names", "for a program"),
        ),
    ),
    Command(
        name="load",
        target="metadata:load",
        group=ABOUT,
        summary="Make in an empty volume what kvfs dump wrote.",
        detail=(
            "The same names, attributes and inode numbers; each file is a hole of its size. "
            "All of it or nothing: lines that were cut off or changed are refused."
        ),
        examples=(
            ("kvfs load scratch://other meta.jsonl", "from a file"),
            ("kvfs load scratch://other < meta.jsonl", "from standard input"),
        ),
    ),
    Command(
        name="drivers",
        target="drivers:drivers",
        group=ABOUT,
        summary="List the installed drivers, and what is broken.",
        detail=("KIND is kv (engines), backing (stores of tarballs) or frontend (ways in)."),
        examples=(
            ("kvfs drivers", "all of them"),
            ("kvfs drivers kv --capabilities", "what each engine can do"),
        ),
    ),
    Command(
        name="kv copy",
        target="kv:copy",
        group=ABOUT,
        summary="Copy what a volume has fetched to another engine, and compare.",
        detail=(
            "SOURCE and DESTINATION are volumes, as a rule two configurations that differ in "
            "[kv]. The copy is of one instant. Until it is complete nobody can open it as a "
            "volume; Ctrl-C leaves it so, and --resume goes on with it."
        ),
        examples=(
            ("kvfs kv copy lmdb.toml postgres.toml", "from one engine to another"),
            ("kvfs kv copy lmdb.toml postgres.toml --resume", "after it was broken off"),
        ),
    ),
    Command(
        name="kv dump",
        target="kv:dump",
        group=ABOUT,
        summary="Write what a volume has fetched to a file.",
        detail=(
            "Compressed if the name ends in .zst. Until it is complete the file is called "
            "FILE.part. Each block has a checksum."
        ),
        examples=(
            ("kvfs kv dump train.toml train.kvfs.zst", "all records, of one instant"),
            ("kvfs kv dump train.toml train.kvfs.zst --resume", "after it was broken off"),
        ),
    ),
    Command(
        name="kv load",
        target="kv:load",
        group=ABOUT,
        summary="Make a volume out of a file that kvfs kv dump wrote.",
        detail=(
            "The file is read through before anything is written: one that is damaged or cut off "
            "is refused."
        ),
        examples=(
            ("kvfs kv load train.kvfs.zst postgres.toml", "into an engine that is empty"),
            ("kvfs kv load train.kvfs.zst postgres.toml --force", "in place of what is there"),
        ),
    ),
    Command(
        name="config explain",
        target="config:explain",
        group=ABOUT,
        summary="Explain every setting: type, default, meaning.",
        examples=(
            ("kvfs config explain", "of every installed driver"),
            ("kvfs config explain train.toml", "of one volume, with its values"),
        ),
    ),
    Command(
        name="config show",
        target="config:show",
        group=ABOUT,
        summary="Print the configuration of a volume as TOML.",
        detail=("Defaults included; secrets are masked."),
        examples=(
            ("kvfs config show tarballs/ > train.toml", "a file to start from"),
            ("kvfs config show /mnt", "what is mounted there"),
        ),
    ),
    Command(
        name="doctor",
        target="doctor:doctor",
        group=ABOUT,
        summary="Look at this machine for what would keep KVFS from working.",
        examples=(
            ("kvfs doctor", "all checks, with advice"),
            ("kvfs doctor --json", "for a program; exits with 1 where one is not ok"),
        ),
    ),
)
