#include "plugin/cbox/cbox-private.hpp"

namespace replica {

const CboxApi cbox_api = {
    .version = cbox_api_version,
    .mark_get = cbox_mark_get,
    .mark_set = cbox_mark_set,
    .first_mark_set = cbox_first_mark_set,
    .list_mark_get = cbox_list_mark_get,
    .list_mark_set = cbox_list_mark_set,
    .list_unlogged_set = cbox_list_unlogged_set,
    .apply = cbox_apply,
    .apply_mark = cbox_apply_mark,
    .snapshot_begin = cbox_snapshot_begin,
    .snapshot_next = cbox_snapshot_next,
    .snapshot_end = cbox_snapshot_end,
    .snapshot_id = cbox_snapshot_id,
    .build_begin = cbox_build_begin,
    .build_add = cbox_build_add,
    .build_commit = cbox_build_commit,
    .build_abort = cbox_build_abort,
    .deleting_set = cbox_deleting_set,
    .blob_root = cbox_blob_root,
    .blob_probe = cbox_blob_probe,
    .sweep = cbox_sweep,
    .claim = cbox_claim,
};

} // namespace replica
