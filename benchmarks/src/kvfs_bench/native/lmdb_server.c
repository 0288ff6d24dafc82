/* A C file system over the LMDB stores of a KVFS volume: what libfuse's low-level interface gives
   over the same records, without pushing contents before they are asked for.

       lmdb_server STATE SEALED SEED SHIFT EXTENT_BYTES MOUNTPOINT

   STATE and SEALED are LMDB directories; SEED and SHIFT make slots of names, EXTENT_BYTES are from
   the superblock.  One thread, in the foreground, until it is unmounted.  OPEN and OPENDIR are
   answered ENOSYS, listings carry attributes, replies are valid as long as the records say.

   The layout of keys and records is that of kvfs/files/records.py, whose numbers come in by -D (see
   readers/compiled.py).  Which store holds a record is not worked out from inode numbers: the
   sealed store is asked first, then the state store. */

#define FUSE_USE_VERSION 34
#define XXH_INLINE_ALL
#include <errno.h>
#include <fuse_lowlevel.h>
#include <lmdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define REPLY_BYTES (1 << 20)
#define FOREVER_S 1e9

static MDB_txn *txns[2]; /* sealed, state: reset between requests */
static MDB_dbi dbis[2];
static MDB_cursor *cursors[2];
static uint64_t seed, extent_bytes;
static unsigned shift;
static char reply[REPLY_BYTES];

static void check(int code, const char *what)
{
    if (code) {
        fprintf(stderr, "lmdb_server: %s: %s\n", what, mdb_strerror(code));
        exit(1);
    }
}

static void open_store(int which, const char *path)
{
    MDB_env *env;
    check(mdb_env_create(&env), path);
    check(mdb_env_open(env, path, MDB_RDONLY, 0), path);
    check(mdb_txn_begin(env, NULL, MDB_RDONLY, &txns[which]), path);
    check(mdb_dbi_open(txns[which], NULL, 0, &dbis[which]), path);
    check(mdb_cursor_open(txns[which], dbis[which], &cursors[which]), path);
    mdb_txn_reset(txns[which]);
}

/* Every request sees what is committed when it begins, as in KVFS. */
static void begin(void)
{
    for (int which = 0; which < 2; which++) {
        check(mdb_txn_renew(txns[which]), "renew");
        check(mdb_cursor_renew(txns[which], cursors[which]), "renew");
    }
}

static void end(void)
{
    mdb_txn_reset(txns[0]);
    mdb_txn_reset(txns[1]);
}

static char *put(char *at, uint64_t number, int bytes) /* big-endian */
{
    while (bytes--)
        *at++ = (char)(number >> 8 * bytes);
    return at;
}

static int get_in(int which, const char *key, size_t size, MDB_val *value)
{
    MDB_val k = {size, (void *)key};
    return mdb_get(txns[which], dbis[which], &k, value) == 0;
}

static int get(const char *key, size_t size, MDB_val *value)
{
    return get_in(0, key, size, value) || get_in(1, key, size, value);
}

static int inode_record(uint64_t inode, MDB_val *value)
{
    char key[9] = "I";
    put(key + 1, inode, 8);
    return get(key, sizeof key, value);
}

static uint64_t little(const char *at, int bytes)
{
    uint64_t number = 0;
    memcpy(&number, at, (size_t)bytes);
    return number;
}

/* The record of a name, or 0: probing goes on from the home slot to a free one. */
static int dirent(uint64_t parent, const char *name, MDB_val *value)
{
    size_t length = strlen(name), padded = (length + 7) & ~(size_t)7;
    uint64_t home = (XXH3_64bits_withSeed(name, length, seed) >> shift) + FIRST_SLOT;
    char key[17] = "D";

    put(key + 1, parent, 8);
    for (uint64_t slot = home; slot < home + PROBES_MAX; slot++) {
        put(key + 9, slot, 8);
        if (!get(key, sizeof key, value))
            return 0;
        const char *record = value->mv_data;
        if (value->mv_size == NAME_IN_RECORD + padded + DIRENT_TRAILER_BYTES &&
            little(record + ENTRY_OUT_BYTES + 16, 4) == length &&
            !memcmp(record + NAME_IN_RECORD, name, length))
            return !(record[value->mv_size - 1] & DIRENT_REMOVED);
    }
    return 0;
}

/* The entry of a record; attributes of one with several names are in its inode. */
static const char *entry_of(const MDB_val *value, char *own)
{
    const char *record = value->mv_data;
    MDB_val inode;

    if (!(record[value->mv_size - 1] & DIRENT_SHARED))
        return record;
    memcpy(own, record, ENTRY_OUT_BYTES);
    if (inode_record(little(record, 8), &inode))
        memcpy(own + ATTR_IN_DIRENT, (char *)inode.mv_data + VALIDITY_BYTES,
               ENTRY_OUT_BYTES - ATTR_IN_DIRENT);
    return own;
}

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    char own[ENTRY_OUT_BYTES];
    MDB_val value;

    begin();
    if (dirent(parent, name, &value)) {
        fuse_reply_buf(req, entry_of(&value, own), ENTRY_OUT_BYTES);
    } else if (parent == FUSE_ROOT_ID) {
        fuse_reply_err(req, ENOENT);
    } else {
        struct fuse_entry_param absent = {.ino = 0, .entry_timeout = FOREVER_S};
        fuse_reply_entry(req, &absent);
    }
    end();
}

static void do_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    MDB_val value;
    (void)info;
    begin();
    if (inode_record(inode, &value))
        fuse_reply_buf(req, value.mv_data, ATTR_OUT_BYTES);
    else
        fuse_reply_err(req, ENOENT);
    end();
}

static void do_readlink(fuse_req_t req, fuse_ino_t inode)
{
    MDB_val value;
    begin();
    if (inode_record(inode, &value))
        fuse_reply_buf(req, (char *)value.mv_data + CONTENT_IN_INODE,
                       value.mv_size - CONTENT_IN_INODE);
    else
        fuse_reply_err(req, ENOENT);
    end();
}

static void do_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *info)
{
    (void)inode, (void)info;
    fuse_reply_err(req, ENOSYS); /* never again: pages and listings are kept */
}

/* The entries behind a slot, out of one store; the bytes used. */
static size_t list(int which, uint64_t inode, uint64_t slot, size_t size, int *is_full)
{
    char start[17] = "D", own[ENTRY_OUT_BYTES];
    MDB_val key = {sizeof start, start}, value;
    size_t used = 0;

    *is_full = 0;
    put(put(start + 1, inode, 8), slot, 8);
    for (int code = mdb_cursor_get(cursors[which], &key, &value, MDB_SET_RANGE); !code;
         code = mdb_cursor_get(cursors[which], &key, &value, MDB_NEXT)) {
        if (key.mv_size != sizeof start || memcmp(key.mv_data, start, 9))
            break;
        const char *record = value.mv_data;
        size_t length = value.mv_size - DIRENT_TRAILER_BYTES;
        if (record[value.mv_size - 1] & DIRENT_REMOVED)
            continue;
        if (used + length > size) {
            *is_full = 1;
            break;
        }
        memcpy(reply + used, entry_of(&value, own), ENTRY_OUT_BYTES);
        memcpy(reply + used + ENTRY_OUT_BYTES, record + ENTRY_OUT_BYTES, length - ENTRY_OUT_BYTES);
        used += length;
    }
    return used;
}

static void do_readdirplus(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                           struct fuse_file_info *info)
{
    uint64_t slot = (uint64_t)offset + 1 > FIRST_SLOT ? (uint64_t)offset + 1 : FIRST_SLOT;
    size_t used;
    int is_full;

    (void)info;
    if (size > REPLY_BYTES)
        size = REPLY_BYTES;
    begin();
    used = list(0, inode, slot, size, &is_full);
    if (!used && !is_full)
        used = list(1, inode, slot, size, &is_full);
    fuse_reply_buf(req, reply, used);
    end();
}

static void read_extents(fuse_req_t req, uint64_t inode, uint64_t length, size_t size,
                         uint64_t offset)
{
    uint64_t stop = offset + size < length ? offset + size : length;
    char key[13] = "E";
    size_t used = 0;

    if (stop > offset + REPLY_BYTES)
        stop = offset + REPLY_BYTES;
    put(key + 1, inode, 8);
    while (offset < stop) {
        uint64_t number = offset / extent_bytes, within = offset % extent_bytes;
        size_t piece = extent_bytes - within < stop - offset ? extent_bytes - within : stop - offset;
        MDB_val value;
        put(key + 9, number, 4);
        memset(reply + used, 0, piece); /* an extent that is not there is all zero */
        if (get_in(0, key, sizeof key, &value) && value.mv_size > within)
            memcpy(reply + used, (char *)value.mv_data + within,
                   value.mv_size - within < piece ? value.mv_size - within : piece);
        used += piece;
        offset += piece;
    }
    fuse_reply_buf(req, reply, used);
}

static void do_read(fuse_req_t req, fuse_ino_t inode, size_t size, off_t offset,
                    struct fuse_file_info *info)
{
    MDB_val value;
    (void)info;
    begin();
    if (!inode_record(inode, &value)) {
        fuse_reply_err(req, ENOENT);
    } else {
        const char *record = value.mv_data;
        size_t length = value.mv_size - CONTENT_IN_INODE, start = (size_t)offset;
        if (record[FLAGS_IN_INODE] & INODE_EXTENTS) {
            read_extents(req, inode, little(record + VALIDITY_BYTES + 8, 8), size, start);
        } else {
            if (start > length)
                start = length;
            if (size > length - start)
                size = length - start;
            fuse_reply_buf(req, record + CONTENT_IN_INODE + start, size); /* out of the map */
        }
    }
    end();
}

static void do_init(void *data, struct fuse_conn_info *conn)
{
    (void)data;
    conn->want |= conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_PARALLEL_DIROPS |
                                   FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA |
                                   FUSE_CAP_ASYNC_READ);
    conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_AUTO_INVAL_DATA);
}

static const struct fuse_lowlevel_ops operations = {
    .init = do_init,
    .lookup = do_lookup,
    .getattr = do_getattr,
    .readlink = do_readlink,
    .open = do_open,
    .opendir = do_open,
    .read = do_read,
    .readdirplus = do_readdirplus,
};

int main(int argc, char **argv)
{
    char *options[] = {argv[0], "-o", "ro,allow_other,default_permissions,fsname=lmdb_server"};
    struct fuse_args args = FUSE_ARGS_INIT(3, options);

    if (argc != 7) {
        fprintf(stderr, "usage: lmdb_server STATE SEALED SEED SHIFT EXTENT_BYTES MOUNTPOINT\n");
        return 2;
    }
    open_store(1, argv[1]);
    open_store(0, argv[2]);
    seed = strtoull(argv[3], NULL, 10);
    shift = (unsigned)atoi(argv[4]);
    extent_bytes = strtoull(argv[5], NULL, 10);
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof operations, NULL);
    if (!session || fuse_set_signal_handlers(session) || fuse_session_mount(session, argv[6]))
        return 1;
    int code = fuse_session_loop(session);
    fuse_session_unmount(session);
    fuse_remove_signal_handlers(session);
    fuse_session_destroy(session);
    return code < 0;
}
